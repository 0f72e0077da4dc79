"""CROWN bounds by auto_LiRPA in place of ours: an independent check, ten times slower.

Xu et al., Automatic Perturbation Analysis for Scalable Certified Robustness and Beyond, arXiv:2002.12920. The version
on PyPI, 0.3, asks for an old torch; installed without its dependencies it runs on a current one after three repairs.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.crown import LinearBounds
from skipml.bounds.stages import Stages
from skipml.bounds.verifier import Verifier
from skipml.errors import ModelError
from skipml.network import Network

Floats = NDArray[np.float64]


class LirpaVerifier(Verifier):
    """A Verifier whose CROWN bounds are computed by auto_LiRPA in float64, with our margin around them.

    Raises ModelError, with what to install, where auto_LiRPA cannot be imported.
    """

    def __init__(self, network: Network, functionals: ArrayLike | None = None) -> None:
        super().__init__(network, functionals)
        self._lirpa = _import_auto_lirpa()
        self._module = _bounded_module(self._lirpa, self._stages)

    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        """Bounds over boxes `lower`, `upper` [M, d]; the slopes are gradients at the centres and bound nothing.

        Sound because auto_LiRPA's CROWN is, up to float64 rounding, which twice our margin covers along with the
        network's own.
        """
        import torch

        with np.errstate(all="ignore"):
            low, high = self._cast(lower), self._cast(upper)
            trace = self._intervals.trace(low, high)
        bounded = (trace.finite & self._bounded)[:, None]
        low, high = np.where(bounded, low, 0.0), np.where(bounded, high, 0.0)
        perturbation = self._lirpa.PerturbationLpNorm(norm=np.inf, x_L=torch.as_tensor(low), x_U=torch.as_tensor(high))
        centre = (low + high) * 0.5
        x = self._lirpa.BoundedTensor(torch.as_tensor(centre), perturbation)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self._module.compute_bounds(x=(x,), method="backward")
        slope = np.stack([self.gradients(centre, np.tile(e, (len(low), 1))) for e in np.eye(len(self.functionals))], 1)
        error = 2 * trace.outputs.error
        return LinearBounds(
            lower=np.where(bounded, found[0].numpy() - error, -np.inf),
            upper=np.where(bounded, found[1].numpy() + error, np.inf),
            slope_lower=slope,
            slope_upper=slope,
            linear_lower=np.full(error.shape, -np.inf),
            linear_upper=np.full(error.shape, np.inf),
        )


def _bounded_module(lirpa: Any, stages: Stages) -> Any:
    import torch

    layers: list[torch.nn.Module] = []
    for stage, slope in zip(stages.linear, (*stages.slopes, None), strict=True):
        layer = torch.nn.Linear(stage.weight.shape[1], stage.weight.shape[0], dtype=torch.float64)
        layer.weight.data[:] = torch.as_tensor(stage.weight)
        layer.bias.data[:] = torch.as_tensor(stage.bias)
        layers.append(layer)
        if slope is not None:
            layers.append(torch.nn.LeakyReLU(slope) if slope else torch.nn.ReLU())
    example = torch.zeros(1, stages.linear[0].weight.shape[1], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lirpa.BoundedModule(torch.nn.Sequential(*layers), example)


def _import_auto_lirpa() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _repair_imports()
            return importlib.import_module("auto_LiRPA")
    except ImportError as error:
        raise ModelError(
            f"the auto_LiRPA verifier cannot be imported ({error}): pip install torch appdirs tqdm, "
            "then pip install --no-deps auto-lirpa==0.3"
        ) from error


def _repair_imports() -> None:
    """Give auto_LiRPA 0.3 the three names that numpy and torch have dropped since."""
    import torch

    if "numpy.lib.arraysetops" not in sys.modules:
        module: Any = types.ModuleType("numpy.lib.arraysetops")
        module.isin = np.isin
        sys.modules["numpy.lib.arraysetops"] = module
    helper: Any = importlib.import_module("torch.onnx.symbolic_helper")
    if not hasattr(helper, "_set_opset_version"):
        exporter: Any = importlib.import_module("torch.onnx._internal.torchscript_exporter._globals")
        helper._set_opset_version = lambda version: setattr(exporter.GLOBALS, "export_onnx_opset_version", version)
    node: Any = torch._C.Node
    if not hasattr(node, "__getitem__"):
        node.__getitem__ = lambda self, name: getattr(self, self.kindOf(name))(name)

"""skops files: scikit-learn models without a pickle, read by skops, which builds no type that it does not trust."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from skipml.errors import ModelError, UnsupportedOperatorError

MAGIC = b"PK\x03\x04"
_SCHEMA = "schema.json"
_MOST_BYTES = 1 << 30
_TRUSTED = {
    "numpy.dtype",
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
}
"""Types that hold numbers and names, beside those that skops trusts itself."""


def is_skops(data: bytes) -> bool:
    """Whether a file is one: an archive with skops's schema in it."""
    if not data.startswith(MAGIC):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _SCHEMA in archive.namelist()
    except (zipfile.BadZipFile, ValueError):
        return False


def read_skops(data: bytes) -> Any:
    """The estimator in a skops file.

    Raises ModelError where skops is not installed, UnsupportedOperatorError with the types that skops does not trust.
    """
    try:
        from skops.io import get_untrusted_types, loads
    except ImportError as error:
        raise ModelError("a skops file, and skops is not installed: pip install skops") from error
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ModelError(f"holds more than {_MOST_BYTES >> 20} MiB, the limit for a model")
    try:
        unknown = set(get_untrusted_types(data=data)) - _TRUSTED
        if unknown:
            raise UnsupportedOperatorError(
                f"holds {', '.join(sorted(unknown))}, which skops does not trust: use scikit-learn's own parts"
            )
        return loads(data, trusted=sorted(_TRUSTED))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"skops cannot read it: {type(error).__name__}: {error}") from error

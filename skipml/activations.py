"""Elementwise functions of a network: value, slope, and where they bend.

Everything is computed in float64 and rounded once. The functions that come from numpy (exp, expm1, log, log1p, tanh)
are used only where a number's result depends on nothing but the number, which is looked at once per process; else the C
library computes them one by one. erf follows fdlibm's s_erf.c (Sun Microsystems, 1993).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal[
    "abs", "clip", "elu", "erf", "exp", "gelu", "gelu_tanh", "hardsigmoid", "hardswish", "log", "mish", "selu",
    "sigmoid", "silu", "softplus", "softsign", "square", "tanh",
]  # fmt: skip
Shape = Literal["convex", "concave", "mixed"]

RELATIVE = 8
"""A computed value is off by less, in units of the last place of the exact one; see `Curve.of_input` for more."""

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_SQRT_HALF, _DENSITY = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


@dataclass(frozen=True, slots=True)
class Curve:
    """One function with its parameters.

    It is convex, concave, or bends at `bends`, between which `convex` says how; outside of `tails` it is affine up to
    `tail_error`. `lowest` is where a function that falls and then rises turns, None for one that never falls. Besides
    `RELATIVE` units of the last place a computed value is off by `of_input` units of its input's and `absolute` of 1,
    and by `jump` where it is pieced together.
    """

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    shape: Shape
    bends: tuple[float, ...] = ()
    convex: tuple[bool, ...] = ()
    tails: tuple[float, float] = (-40.0, 40.0)
    tail_error: float = 1e-15
    steepest: tuple[float, float] = (0.0, 1.0)
    lowest: float | None = None
    of_input: float = 0.0
    absolute: float = 0.0
    jump: float = 0.0
    domain: tuple[float, float] = (-math.inf, math.inf)


@functools.cache
def curve(kind: Kind, parameters: tuple[float, ...] = ()) -> Curve:
    """The function of a kind: elu (alpha > 0), clip (low, high), hardsigmoid (alpha > 0, beta), softplus (beta > 0,
    threshold) take parameters.
    """
    return _MAKERS[kind](*parameters)


def _curve_abs() -> Curve:
    return Curve(np.abs, lambda x: np.where(x < 0, -1.0, 1.0), "convex", steepest=(-1.0, 1.0), lowest=0.0)


def _curve_square() -> Curve:
    return Curve(lambda x: x * x, lambda x: 2 * x, "convex", steepest=(-math.inf, math.inf), lowest=0.0)


def _curve_clip(low: float, high: float) -> Curve:
    def slope(x: Floats) -> Floats:
        return np.where((x < low) | (x > high), 0.0, 1.0)

    bends = tuple(end for end in (low, high) if math.isfinite(end))
    tails = (bends[0], bends[-1]) if bends else (0.0, 0.0)
    flat = (True,) * max(0, len(bends) - 1)
    return Curve(lambda x: np.clip(x, low, high), slope, "mixed", bends, flat, tails, 0.0)


def _curve_hardsigmoid(alpha: float, beta: float) -> Curve:
    low, high = -beta / alpha, (1 - beta) / alpha
    return Curve(
        lambda x: np.clip(alpha * x + beta, 0.0, 1.0),
        lambda x: np.where((x < low) | (x > high), 0.0, alpha),
        "mixed", (low, high), (True,), (low, high), 1e-14 * (1 + abs(beta)), (0.0, alpha),
        of_input=4 * alpha, absolute=4 * (1 + abs(beta)),
    )  # fmt: skip


def _curve_hardswish() -> Curve:
    return Curve(
        lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0),
        lambda x: np.where(x < -3, 0.0, np.where(x > 3, 1.0, (2 * x + 3) / 6)),
        "mixed", (-3.0, 3.0), (True,), (-3.0, 3.0), 1e-14, (-0.5, 1.5), -1.5, 4.0,
    )  # fmt: skip


def _curve_exp() -> Curve:
    return Curve(exp, exp, "convex", steepest=(0.0, math.inf))


def _curve_log() -> Curve:
    return Curve(log, lambda x: 1 / x, "concave", steepest=(0.0, math.inf), domain=(2.0**-120, math.inf))


def _curve_elu(alpha: float) -> Curve:
    def value(x: Floats) -> Floats:
        return np.where(x > 0, x, alpha * expm1(np.minimum(x, 0.0)))

    def slope(x: Floats) -> Floats:
        return np.where(x > 0, 1.0, alpha * exp(np.minimum(x, 0.0)))

    steepest = (0.0, max(1.0, alpha))
    if alpha <= 1:
        return Curve(value, slope, "convex", steepest=steepest)
    return Curve(value, slope, "mixed", (-45.0, 0.0), (True,), (-45.0, 0.0), 1e-18 * alpha, steepest)


def _curve_selu() -> Curve:
    inner, tail = _curve_elu(_SELU_ALPHA), 1e-17
    steepest = (0.0, _SELU_ALPHA * _SELU_SCALE)
    return Curve(
        lambda x: _SELU_SCALE * inner.value(x), lambda x: _SELU_SCALE * inner.slope(x),
        "mixed", (-45.0, 0.0), (True,), (-45.0, 0.0), tail, steepest,
    )  # fmt: skip


def _curve_softplus(beta: float, threshold: float) -> Curve:
    def value(x: Floats) -> Floats:
        z = beta * x
        return np.where(z > threshold, x, (np.maximum(z, 0.0) + log1p(exp(-np.abs(z)))) / beta)

    off = math.exp(-min(threshold, 700.0)) / beta  # where torch takes x itself
    return Curve(value, lambda x: _sigmoid(beta * x), "convex", of_input=2.0, jump=off)


def _curve_sigmoid() -> Curve:
    return Curve(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), "mixed", (0.0,), steepest=(0.0, 0.25))


def _curve_tanh() -> Curve:
    def slope(x: Floats) -> Floats:
        y = exp(-2 * np.abs(x))
        return 4 * y / ((1 + y) * (1 + y))

    return Curve(tanh, slope, "mixed", (0.0,), tails=(-20.0, 20.0), tail_error=1e-16)


def _curve_erf() -> Curve:
    top = 2 / math.sqrt(math.pi)
    return Curve(
        erf, lambda x: top * exp(-x * x), "mixed", (0.0,), tails=(-6.5, 6.5), tail_error=1e-18, steepest=(0.0, top),
        absolute=1.0,
    )  # fmt: skip


def _curve_softsign() -> Curve:
    def slope(x: Floats) -> Floats:
        return np.asarray(1 / ((1 + np.abs(x)) * (1 + np.abs(x))))

    return Curve(lambda x: x / (1 + np.abs(x)), slope, "mixed", (0.0,), tails=(-1e16, 1e16), tail_error=1.1e-16)


def _curve_silu() -> Curve:
    def slope(x: Floats) -> Floats:
        y = _sigmoid(x)
        return y + x * y * _sigmoid(-x)

    bend = 2.39935728051546767
    return Curve(
        lambda x: x * _sigmoid(x), slope, "mixed", (-bend, bend), (True,), tail_error=2e-16, steepest=(-0.1, 1.1),
        lowest=-1.2784645427610738,
    )  # fmt: skip


def _curve_gelu() -> Curve:
    def slope(x: Floats) -> Floats:
        return 0.5 * (1 + erf(x * _SQRT_HALF)) + x * _DENSITY * exp(-0.5 * x * x)

    bend = math.sqrt(2)
    return Curve(
        lambda x: 0.5 * x * (1 + erf(x * _SQRT_HALF)), slope, "mixed", (-bend, bend), (True,), (-12.0, 12.0), 1e-15,
        (-0.13, 1.13), -0.751791524693564457, 4.0,
    )  # fmt: skip


def _curve_gelu_tanh() -> Curve:
    def inside(x: Floats) -> Floats:
        return _TANH_SCALE * (x + _TANH_CUBE * x * x * x)

    def slope(x: Floats) -> Floats:
        y = tanh(inside(x))
        cut = np.clip(x, -1e3, 1e3)
        return 0.5 * (1 + y) + 0.5 * cut * (1 - y * y) * _TANH_SCALE * (1 + 3 * _TANH_CUBE * cut * cut)

    bend = 1.41850400879082836
    return Curve(
        lambda x: 0.5 * x * (1 + tanh(inside(x))), slope, "mixed", (-bend, bend), (True,), (-12.0, 12.0), 1e-15,
        (-0.13, 1.13), -0.752461422071016258, 4.0,
    )  # fmt: skip


def _curve_mish() -> Curve:
    def gate(x: Floats) -> Floats:
        return tanh(np.maximum(x, 0.0) + log1p(exp(-np.abs(x))))

    def slope(x: Floats) -> Floats:
        y = gate(x)
        cut = np.clip(x, -1e3, 1e3)
        return y + cut * (1 - y * y) * _sigmoid(x)

    return Curve(
        lambda x: x * gate(x), slope, "mixed", (-2.25637639636079312, 1.49057117948542846), (True,), tail_error=2e-15,
        steepest=(-0.12, 1.09), lowest=-1.19243121451549521, of_input=4.0,
    )  # fmt: skip


_MAKERS: dict[Kind, Callable[..., Curve]] = {
    "abs": _curve_abs,
    "clip": _curve_clip,
    "elu": _curve_elu,
    "erf": _curve_erf,
    "exp": _curve_exp,
    "gelu": _curve_gelu,
    "gelu_tanh": _curve_gelu_tanh,
    "hardsigmoid": _curve_hardsigmoid,
    "hardswish": _curve_hardswish,
    "log": _curve_log,
    "mish": _curve_mish,
    "selu": _curve_selu,
    "sigmoid": _curve_sigmoid,
    "silu": _curve_silu,
    "softplus": _curve_softplus,
    "softsign": _curve_softsign,
    "square": _curve_square,
    "tanh": _curve_tanh,
}


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + exp(-x)))


def exp(x: Floats) -> Floats:
    """e to the power of x."""
    return _trusted("exp")(x)


def expm1(x: Floats) -> Floats:
    """e to the power of x, less 1."""
    return _trusted("expm1")(x)


def log(x: Floats) -> Floats:
    """The natural logarithm."""
    return _trusted("log")(x)


def log1p(x: Floats) -> Floats:
    """The natural logarithm of 1 + x."""
    return _trusted("log1p")(x)


def tanh(x: Floats) -> Floats:
    """The hyperbolic tangent."""
    return _trusted("tanh")(x)


@functools.cache
def _trusted(name: str) -> Callable[[Floats], Floats]:
    """numpy's function where a number's result does not depend on its place in an array, else the C library's."""
    function: np.ufunc = getattr(np, name)
    if is_placeless(function):
        return function
    one_by_one: Any = np.vectorize(getattr(_SafeMath, name), otypes=[np.float64])
    return lambda x: np.asarray(one_by_one(x), np.float64)


def is_placeless(function: Callable[[Floats], Floats]) -> bool:
    """Whether an elementwise function gives each of many numbers the result that it has alone, wherever it stands."""
    x = np.abs(np.random.default_rng(0).standard_normal(203)) * np.repeat([0.01, 1.0, 30.0], 68)[:203]
    alone = np.concatenate([function(x[i : i + 1].copy()) for i in range(len(x))])
    for start in range(17):
        for behind in range(9):
            stop = len(x) - behind
            if (function(x[start:stop]) != alone[start:stop]).any():
                return False
    return bool((function(np.repeat(x, 2)[::2]) == alone).all())


class _SafeMath:
    """The C library's functions with results where Python raises."""

    @staticmethod
    def exp(x: float) -> float:
        """Infinite beyond the largest float64."""
        return math.exp(x) if not x > 709.78 else x * math.inf

    @staticmethod
    def expm1(x: float) -> float:
        """Infinite beyond the largest float64."""
        return math.expm1(x) if not x > 709.78 else x * math.inf

    @staticmethod
    def log(x: float) -> float:
        """-inf of 0 and NaN of what is less."""
        return math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)

    @staticmethod
    def log1p(x: float) -> float:
        """-inf of -1 and NaN of what is less."""
        return math.log1p(x) if x > -1 else (-math.inf if x == -1 else math.nan)

    tanh = staticmethod(math.tanh)


def erf(x: Floats) -> Floats:
    """The error function, off by less than 2^-50."""
    x = np.asarray(x, np.float64)
    found = np.copysign(1.0, x)
    size = np.abs(x)
    near, far = size < 0.84375, (size >= 1.25) & (size < 6)
    middle = ~near & (size < 1.25)
    found[near] = _erf_near(x[near])
    found[middle] *= _ERX + _ratio(size[middle] - 1, _PA, _QA)
    found[far] *= _erf_far(size[far])
    found[np.isnan(x)] = np.nan
    return found


def _erf_near(x: Floats) -> Floats:
    return x + x * _ratio(x * x, _PP, _QQ)


def _erf_far(size: Floats) -> Floats:
    inverse = 1 / (size * size)
    nearer = size < 1 / 0.35
    tail = np.empty_like(size)
    tail[nearer] = _ratio(inverse[nearer], _RA, _SA)
    tail[~nearer] = _ratio(inverse[~nearer], _RB, _SB)
    return np.asarray(1 - exp(-size * size - 0.5625 + tail) / size)


def _ratio(x: Floats, above: tuple[float, ...], below: tuple[float, ...]) -> Floats:
    """The quotient of two polynomials, lowest powers first, by Horner's rule."""
    sides = []
    for side in (above, below):
        total = np.full_like(x, side[-1])
        for factor in side[-2::-1]:
            total *= x
            total += factor
        sides.append(total)
    return np.asarray(sides[0] / sides[1])


_ERX = 8.45062911510467529297e-01
_PP = (
    1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02, -5.77027029648944159157e-03,
    -2.37630166566501626084e-05,
)  # fmt: skip
_QQ = (
    1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03, 1.32494738004321644526e-04,
    -3.96022827877536812320e-06,
)  # fmt: skip
_PA = (
    -2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01, 3.18346619901161753674e-01,
    -1.10894694282396677476e-01, 3.54783043256182359371e-02, -2.16637559486879084300e-03,
)  # fmt: skip
_QA = (
    1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02, 1.26171219808761642112e-01,
    1.36370839120290507362e-02, 1.19844998467991074170e-02,
)  # fmt: skip
_RA = (
    -9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e+01, -6.23753324503260060396e+01,
    -1.62396669462573470355e+02, -1.84605092906711035994e+02, -8.12874355063065934246e+01, -9.81432934416914548592e+00,
)  # fmt: skip
_SA = (
    1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02, 4.34565877475229228821e+02, 6.45387271733267880336e+02,
    4.29008140027567833386e+02, 1.08635005541779435134e+02, 6.57024977031928170135e+00, -6.04244152148580987438e-02,
)  # fmt: skip
_RB = (
    -9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e+01, -1.60636384855821916062e+02,
    -6.37566443368389627722e+02, -1.02509513161107724954e+03, -4.83519191608651397019e+02,
)  # fmt: skip
_SB = (
    1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02, 1.53672958608443695994e+03, 3.19985821950859553908e+03,
    2.55305040643316442583e+03, 4.74528541206955367215e+02, -2.24409524465858183362e+01,
)  # fmt: skip

"""The scaling laws: value, analytic gradient, names, units and source of each.

A law is evaluated in two parametrisations. The *natural* one is what papers print (``E``, ``A``, ``alpha``). The
*working* one, used by the solver, takes the logarithm of every positive amplitude (``ln A``) and leaves the floor ``E``
and the exponents as they are: the floor may then reach its bound 0 in a finite number of steps, which ``ln E`` never
can.

Shapes: ``params`` is (..., k); each variable is an array of one common shape (n,) or broadcastable to it. A value has
shape (..., n), a gradient (..., k, n). N in parameters, D and U in tokens, losses in the unit of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import forms
from scaling_lib.fit.forms import Array

EXPONENT = (1e-3, 3.0)  # no published exponent of a language model lies outside; at the bound a fit says so
AMPLITUDE = FLOOR = (0.0, np.inf)
TINY = 1e-120  # least loss a law is taken to give: its inverse can be squared and weighted without overflow


@dataclass(frozen=True)
class Law:
    """One form of scaling law.

    Attributes
    ----------
    name, formula, source : text.
    param_names : natural parameters in the order of every parameter array.
    variables : ``("N",)``, ``("D",)``, ``("N", "D")`` or ``("N", "D", "U")``: the order of the arguments.
    logged : for each parameter, whether its working value is its logarithm.
    bounds : (low, high) of each natural parameter.
    units : unit of each parameter.
    nonlinear : parameters held on a grid by the second route of the certificate (the exponents).
    core : ``core(working, log_x) -> (value, gradient)`` with ``working`` (..., k), ``log_x`` a tuple of natural
        logarithms.
    to_units : ``to_units(working, log_x0, log_l0)``: working parameters for x and L from those for x/x0 and L/L0.
    seed_point : ``seed_point(cube, low)``: map points of the unit cube (..., k) to working parameters for data scaled
        to geometric mean 1 in every variable and in the loss, whose least loss is ``low``.
    """

    name: str
    formula: str
    param_names: tuple[str, ...]
    variables: tuple[str, ...]
    logged: tuple[bool, ...]
    bounds: tuple[tuple[float, float], ...]
    units: tuple[str, ...]
    nonlinear: tuple[str, ...]
    source: str
    core: Callable[[Array, tuple[Array, ...]], tuple[Array, Array]] = forms.additive
    to_units: Callable[[Array, tuple[float, ...], float], Array] = forms.additive_units
    seed_point: Callable[[Array, float], Array] = forms.additive_seed

    @property
    def n_params(self) -> int:
        """Number of parameters k."""
        return len(self.param_names)

    def to_working(self, params: Array) -> Array:
        """Working parameters (..., k) of natural ones: the logarithm of each amplitude."""
        params = np.array(params, dtype=float)
        mask = np.array(self.logged)
        params[..., mask] = np.log(np.maximum(params[..., mask], 1e-300))
        return params

    def to_natural(self, working: Array) -> Array:
        """Natural parameters (..., k) of working ones."""
        working = np.array(working, dtype=float)
        mask = np.array(self.logged)
        working[..., mask] = np.exp(np.clip(working[..., mask], -690.0, 690.0))
        return working

    def log_value(self, working: Array, log_x: tuple[Array, ...]) -> tuple[Array, Array]:
        """Logarithm of the value (..., n), and its gradient (..., k, n) by the working parameters (..., k)."""
        value, gradient = self.core(working, log_x)
        np.maximum(value, TINY, out=value)
        gradient /= value[..., None, :]
        return np.log(value, out=value), gradient

    def value(self, params: Array, *x: Array | float) -> Array:
        """Loss of natural parameters (..., k) at ``x``, one array per variable: shape (...) + shape of x."""
        flat, shape = self._logs(x)
        working = self.to_working(np.asarray(params, dtype=float))
        out = self.core(working, flat)[0]
        return out.reshape(working.shape[:-1] + shape)

    def gradient(self, params: Array, *x: Array | float, working: bool = False) -> Array:
        """Derivative by each natural (``working=True``: working) parameter: (..., k) + shape of x."""
        flat, shape = self._logs(x)
        params = np.asarray(params, dtype=float)
        out = self.core(self.to_working(params), flat)[1]
        if not working:
            scale = np.where(self.logged, np.maximum(params, 1e-300), 1.0)
            out = out / scale[..., None]
        return out.reshape((*params.shape, *shape))

    def _logs(self, x: tuple[Array | float, ...]) -> tuple[tuple[Array, ...], tuple[int, ...]]:
        if len(x) != len(self.variables):
            wanted = ", ".join(self.variables)
            raise InputError(f"law {self.name!r} takes {len(self.variables)} argument(s) ({wanted}), got {len(x)}")
        arrays = np.broadcast_arrays(*[np.asarray(v, dtype=float) for v in x])
        for name, v in zip(self.variables, arrays, strict=True):
            if not (np.all(np.isfinite(v)) and np.all(v > 0)):
                raise InputError(f"law {self.name!r}: {name} must be finite and above 0")
        return tuple(np.log(v).ravel() for v in arrays), arrays[0].shape


def _power(variable: str, amplitude: str, exponent: str, unit: str) -> Law:
    return Law(
        name=f"power_{variable.lower()}",
        formula=f"L = E + {amplitude} / {variable}^{exponent}",
        source="Kaplan et al. 2020 (E = 0); Henighan et al. 2020 (free E)",
        variables=(variable,),
        param_names=("E", amplitude, exponent),
        logged=(False, True, False),
        bounds=(FLOOR, AMPLITUDE, EXPONENT),
        units=("loss", f"loss x {unit}^{exponent}", "1"),
        nonlinear=(exponent,),
    )


def _broken(variable: str, amplitude: str, unit: str) -> Law:
    return Law(
        name=f"broken_{variable.lower()}",
        formula=f"L = E + {amplitude} {variable}^-slope (1 + ({variable}/x_break)^(1/width))^(-change width)",
        source="Caballero et al. 2023, equation 1 with one break",
        variables=(variable,),
        param_names=("E", amplitude, "slope", "change", "x_break", "width"),
        logged=(False, True, False, False, True, True),
        bounds=(FLOOR, AMPLITUDE, EXPONENT, (-3.0, 3.0), AMPLITUDE, (0.05, 5.0)),
        units=("loss", f"loss x {unit}^slope", "1", "1", unit, "1"),
        nonlinear=("slope", "change"),
        core=forms.broken,
        to_units=forms.broken_units,
        seed_point=forms.broken_seed,
    )


POWER_N = _power("N", "A", "alpha", "parameters")
POWER_D = _power("D", "B", "beta", "tokens")
POWER_C = _power("C", "A", "alpha", "FLOP")
BROKEN_N = _broken("N", "A", "parameters")
BROKEN_D = _broken("D", "B", "tokens")

CHINCHILLA = Law(
    name="chinchilla",
    formula="L = E + A / N^alpha + B / D^beta",
    source="Hoffmann et al. 2022, equation 2",
    variables=("N", "D"),
    param_names=("E", "A", "B", "alpha", "beta"),
    logged=(False, True, True, False, False),
    bounds=(FLOOR, AMPLITUDE, AMPLITUDE, EXPONENT, EXPONENT),
    units=("loss", "loss x parameters^alpha", "loss x tokens^beta", "1", "1"),
    nonlinear=("alpha", "beta"),
)

POWER_MEAN = Law(
    name="power_mean",
    formula="L = E + ((A / N^alpha)^q + (B / D^beta)^q)^(1/q)",
    source="a one-parameter family round Hoffmann et al. 2022 (q = 1): how the two shortfalls add",
    variables=CHINCHILLA.variables,
    param_names=(*CHINCHILLA.param_names, "q"),
    logged=(*CHINCHILLA.logged, True),
    bounds=(*CHINCHILLA.bounds, (0.1, 10.0)),
    units=(*CHINCHILLA.units, "1"),
    nonlinear=("alpha", "beta", "q"),
    core=forms.power_mean,
    seed_point=forms.power_mean_seed,
)

DATA_CONSTRAINED = Law(
    name="data_constrained",
    formula="L = E + A / N'^alpha + B / D'^beta, D' = U (1 + R_D (1 - exp(-(D/U - 1)/R_D))), N' likewise with U_N",
    source="Muennighoff et al. 2023, equations 5 and 6; U is the number of unique tokens",
    variables=("N", "D", "U"),
    param_names=(*CHINCHILLA.param_names, "R_N", "R_D"),
    logged=(*CHINCHILLA.logged, True, True),
    bounds=(*CHINCHILLA.bounds, (1e-2, 1e4), (1e-2, 1e4)),
    units=(*CHINCHILLA.units, "1", "1"),
    nonlinear=("alpha", "beta"),
    core=forms.data_constrained,
    seed_point=forms.data_constrained_seed,
)

OVER_TRAINING = Law(
    name="over_training",
    formula="L = E + (a M^eta + b M^-eta) C^-eta, M = D / N, C = 6 N D",
    source="Gadre et al. 2024, equation 4",
    variables=("N", "D"),
    param_names=("E", "a", "b", "eta"),
    logged=(False, True, True, False),
    bounds=(FLOOR, AMPLITUDE, AMPLITUDE, EXPONENT),
    units=("loss", "loss x FLOP^eta", "loss x FLOP^eta", "1"),
    nonlinear=("eta",),
    core=forms.over_training,
    to_units=forms.over_training_units,
    seed_point=forms.over_training_seed,
)

LINE = Law(
    name="line",
    formula="L = A / (N^alpha D^beta)",
    source="a straight line in the logarithms of the loss, N and D: the humblest form, no floor and no interaction",
    variables=("N", "D"),
    param_names=("A", "alpha", "beta"),
    logged=(True, False, False),
    bounds=(AMPLITUDE, (-3.0, 3.0), (-3.0, 3.0)),
    units=("loss x parameters^alpha x tokens^beta", "1", "1"),
    nonlinear=(),
    core=forms.line,
    to_units=forms.line_units,
    seed_point=forms.line_seed,
)

KAPLAN = Law(
    name="kaplan",
    formula="L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    source="Kaplan et al. 2020, equation 1.5",
    variables=("N", "D"),
    param_names=("N_c", "D_c", "alpha_N", "alpha_D"),
    logged=(True, True, False, False),
    bounds=(AMPLITUDE, AMPLITUDE, EXPONENT, EXPONENT),
    units=("parameters", "tokens", "1", "1"),
    nonlinear=("alpha_N", "alpha_D"),
    core=forms.kaplan,
    to_units=forms.kaplan_units,
    seed_point=forms.kaplan_seed,
)

_ALL = (
    POWER_N,
    POWER_D,
    POWER_C,
    CHINCHILLA,
    LINE,
    KAPLAN,
    POWER_MEAN,
    DATA_CONSTRAINED,
    OVER_TRAINING,
    BROKEN_N,
    BROKEN_D,
)
LAWS: dict[str, Law] = {law.name: law for law in _ALL}
ALIASES = {"muennighoff": "data_constrained", "gadre": "over_training"}


def get_law(law: str | Law) -> Law:
    """The law of that name; a ``Law`` passes through. Raises `InputError` that lists the names it knows."""
    if isinstance(law, Law):
        return law
    found = LAWS.get(ALIASES.get(law, law)) if isinstance(law, str) else None
    if found is None:
        raise InputError(f"unknown law {law!r}: choose one of {', '.join(sorted(LAWS))}")
    return found

"""The scaling laws: value, analytic gradient, names, units and source of each.

A law is evaluated in two parametrisations. The *natural* one is what papers print (``E``, ``A``, ``alpha``). The
*working* one, used by the solver, takes the logarithm of every positive amplitude (``ln A``) and leaves the floor ``E``
and the exponents as they are: the floor may then reach its bound 0 in a finite number of steps, which ``ln E`` never
can.

Shapes: ``params`` is (..., k); each variable is an array of one common shape (n,) or broadcastable to it. A value has
shape (..., n), a gradient (..., k, n). N in parameters, D and U in tokens, losses in the unit of the data.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check, forms
from scaling_lib.fit.forms import Array

EXPONENT = (1e-3, 3.0)  # no published exponent of a language model lies outside; at the bound a fit says so
POSITIVE = (0.0, np.inf)
FAR_DECADES = 1.5  # 30 times beyond the runs is where published back-tests end well ...
# ... and no target is believed that lies further beyond the runs than the runs themselves span.
TINY = 1e-120  # least loss a law is taken to give: its inverse can be squared and weighted without overflow


@dataclass(frozen=True)
class Law:
    """One form of scaling law.

    Attributes
    ----------
    name, formula, source : text.
    variables : ``("N",)``, ``("D",)``, ``("N", "D")`` or ``("N", "D", "U")``: the order of the arguments.
    param_names : natural parameters in the order of every parameter array. units, bounds : of each.
    logged : for each parameter, whether its working value is its logarithm.
    nonlinear : parameters held on a grid by the second route of the certificate (the exponents).
    core : ``core(working, log_x) -> (value, gradient)`` with ``working`` (..., k), ``log_x`` a tuple of natural
        logarithms.
    to_units : ``to_units(working, log_x0, log_l0)``: working parameters for x and L from those for x/x0 and L/L0.
    seed_point : ``seed_point(cube, low)``: map points of the unit cube (..., k) to working parameters for data scaled
        to geometric mean 1 in every variable and in the loss, whose least loss is ``low``.
    """

    name: str
    formula: str
    source: str
    variables: tuple[str, ...]
    param_names: tuple[str, ...]
    units: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    logged: tuple[bool, ...]
    nonlinear: tuple[str, ...]
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
        flat, shape = check.targets(self.variables, x)
        params = np.asarray(params, dtype=float)
        out = self.core(self.to_working(params), tuple(map(np.log, flat)))[0]
        return out.reshape(params.shape[:-1] + shape)

    def gradient(self, params: Array, *x: Array | float, working: bool = False) -> Array:
        """Derivative by each natural (``working=True``: working) parameter: (..., k) + shape of x."""
        flat, shape = check.targets(self.variables, x)
        params = np.asarray(params, dtype=float)
        out = self.core(self.to_working(params), tuple(map(np.log, flat)))[1]
        if not working:
            out = out / np.where(self.logged, np.maximum(params, 1e-300), 1.0)[..., None]
        return out.reshape((*params.shape, *shape))


# ---- the forms -----------------------------------------------------------------------

# What a parameter is follows from its name: bounds, whether its working value is its logarithm, whether it is held on
# the certificate's grid. What is not here is an amplitude or a scale.
_KINDS = {
    "E": (POSITIVE, False, False),
    **dict.fromkeys(("alpha", "beta", "eta", "alpha_N", "alpha_D"), (EXPONENT, False, True)),
    "q": ((0.1, 10.0), True, True),
    **dict.fromkeys(("R_N", "R_D"), ((1e-2, 1e4), True, False)),
}


def _law(name: str, formula: str, source: str, variables: str, names: str, units: Mapping[str, str], **own: Any) -> Law:
    """A law; ``variables`` and ``names`` (of its parameters) separated by blanks, ``units`` of those that have one."""
    params = tuple(names.split())
    bounds, logged, held = zip(*(_KINDS.get(p, (POSITIVE, True, False)) for p in params), strict=True)
    made = {
        "units": tuple(units.get(p, "loss" if p == "E" else "1") for p in params),
        "bounds": bounds,
        "logged": logged,
        "nonlinear": tuple(itertools.compress(params, held)),
    }
    return Law(name, formula, source, tuple(variables.split()), params, **(made | own))


def _power(x: str, amplitude: str, exponent: str, unit: str) -> Law:
    source = "Kaplan et al. 2020 (E = 0); Henighan et al. 2020 (free E)"
    formula, units = f"L = E + {amplitude} / {x}^{exponent}", {amplitude: f"loss x {unit}^{exponent}"}
    return _law(f"power_{x.lower()}", formula, source, x, f"E {amplitude} {exponent}", units)


POWER_N = _power("N", "A", "alpha", "parameters")
POWER_D = _power("D", "B", "beta", "tokens")
POWER_C = _power("C", "A", "alpha", "FLOP")
_OF_SUM = {"A": "loss x parameters^alpha", "B": "loss x tokens^beta"}
CHINCHILLA = _law(
    "chinchilla",
    "L = E + A / N^alpha + B / D^beta",
    "Hoffmann et al. 2022, equation 2",
    "N D",
    "E A B alpha beta",
    _OF_SUM,
)
POWER_MEAN = _law(
    "power_mean",
    "L = E + ((A / N^alpha)^q + (B / D^beta)^q)^(1/q)",
    "a one-parameter family round Hoffmann et al. 2022 (q = 1): how the two shortfalls add",
    "N D",
    "E A B alpha beta q",
    _OF_SUM,
    core=forms.power_mean,
    seed_point=forms.power_mean_seed,
)
DATA_CONSTRAINED = _law(
    "data_constrained",
    "L = E + A / N'^alpha + B / D'^beta, D' = U (1 + R_D (1 - exp(-(D/U - 1)/R_D))), N' likewise with U_N",
    "Muennighoff et al. 2023, equations 5 and 6; U is the number of unique tokens",
    "N D U",
    "E A B alpha beta R_N R_D",
    _OF_SUM,
    core=forms.data_constrained,
    seed_point=forms.data_constrained_seed,
)
OVER_TRAINING = _law(
    "over_training",
    "L = E + (a M^eta + b M^-eta) C^-eta, M = D / N, C = 6 N D",
    "Gadre et al. 2024, equation 4",
    "N D",
    "E a b eta",
    dict.fromkeys("ab", "loss x FLOP^eta"),
    core=forms.over_training,
    to_units=forms.over_training_units,
    seed_point=forms.over_training_seed,
)
LINE = _law(
    "line",
    "L = A / (N^alpha D^beta)",
    "a straight line in the logarithms of the loss, N and D: the humblest form, no floor and no interaction",
    "N D",
    "A alpha beta",
    {"A": "loss x parameters^alpha x tokens^beta"},
    bounds=(POSITIVE, (-3.0, 3.0), (-3.0, 3.0)),
    nonlinear=(),
    core=forms.line,
    to_units=forms.line_units,
    seed_point=forms.line_seed,
)
KAPLAN = _law(
    "kaplan",
    "L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    "Kaplan et al. 2020, equation 1.5",
    "N D",
    "N_c D_c alpha_N alpha_D",
    {"N_c": "parameters", "D_c": "tokens"},
    core=forms.kaplan,
    to_units=forms.kaplan_units,
    seed_point=forms.kaplan_seed,
)
_JOINT = (CHINCHILLA, LINE, KAPLAN, POWER_MEAN, DATA_CONSTRAINED, OVER_TRAINING)
LAWS: dict[str, Law] = {law.name: law for law in (POWER_N, POWER_D, POWER_C, *_JOINT)}
ALIASES = {"muennighoff": "data_constrained", "gadre": "over_training"}


def get_law(law: str | Law) -> Law:
    """The law of that name; a ``Law`` passes through. Raises `InputError` that lists the names it knows."""
    if isinstance(law, Law):
        return law
    found = LAWS.get(ALIASES.get(law, law)) if isinstance(law, str) else None
    if found is None:
        raise InputError(f"unknown law {law!r}: choose one of {', '.join(sorted(LAWS))}")
    return found

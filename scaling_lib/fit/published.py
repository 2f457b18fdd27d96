"""Published laws and models, each with its source and a tag that says how it is known.

Tags: P read in the authors' own repository or data, T a verbatim transcription of the paper, S secondary, C
computed from the others, ``rumour`` unconfirmed (GPT-4, and only GPT-4). The numbers live in
``tables/*.csv``.

``laws`` maps a name to a :class:`PublishedLaw`: ``published.laws["chinchilla-epoch"].predict(175e9,
300e9)``. Losses of different corpora or tokenizers are not comparable: compare exponents only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from scaling_lib.errors import InputError
from scaling_lib.fit._published_runs import EPOCH_FILE, EPOCH_SHA256, EPOCH_URL, cerebras_gpt, epoch_runs, pythia, read
from scaling_lib.fit.laws import POWER_N, Law, get_law

Floats = NDArray[np.float64]
PF_DAY = 8.64e19  # FLOP: 1e15 a second for a day
FAR_DECADES = 1.5  # 30 times beyond the runs is where published back-tests end well

# The law of compute alone; `fit_law(POWER_C, (flops,), loss)` fits it.
POWER_C: Law = replace(
    POWER_N,
    name="power_c",
    formula="L = E + A / C^alpha",
    variables=("C",),
    units=("loss", "loss x FLOP^alpha", "1"),
    source="Kaplan et al. 2020, equation 1.3 (E = 0)",
)

__all__ = [
    "EPOCH_FILE",
    "EPOCH_SHA256",
    "EPOCH_URL",
    "PF_DAY",
    "POWER_C",
    "Model",
    "PublishedLaw",
    "PublishedPower",
    "cerebras_gpt",
    "epoch_runs",
    "laws",
    "models",
    "optima",
    "pythia",
    "read",
    "total_params",
]

laws: Mapping[str, PublishedLaw]  # made when first asked for: see __getattr__
optima: Mapping[str, PublishedPower]


@dataclass(frozen=True)
class PublishedLaw:
    """A loss law as published.

    Attributes
    ----------
    name, title, source, tag, note : text; ``tag`` as in the module's docstring.
    corpus, tokenizer : what the losses were measured on; losses of others are not comparable.
    law : the form, which names the parameters and the variables (N, D, C in FLOP, U in unique tokens).
    params : the values in the form's parametrisation, nats per token.
    stderr : the published standard errors; empty where none are printed.
    cov : (k, k) covariance of ``law.to_working(params)`` (logarithms of amplitudes), or None where none is
        published.
    fit_range : {"N": (least, most), "D": ..., "C": ...} of the runs behind it, in parameters, tokens and FLOP.
    """

    name: str
    title: str
    law: Law
    params: Mapping[str, float]
    corpus: str
    tokenizer: str
    source: str
    tag: str
    note: str = ""
    stderr: Mapping[str, float] = field(default_factory=dict)
    cov: Floats | None = None
    fit_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def values(self) -> Floats:
        """The parameters (k,) in the law's order."""
        return np.array([self.params[name] for name in self.law.param_names])

    def predict(self, *x: ArrayLike) -> Any:
        """Return the loss in nats per token at ``x``, one argument per ``law.variables``: float or array."""
        value = self.law.value(self.values, *(np.asarray(v, dtype=float) for v in x))
        return float(value) if value.ndim == 0 else value

    def interval(self, *x: ArrayLike, level: float = 0.9) -> tuple[Any, Any]:
        """Return (low, high) of the law's mean at ``x`` by the delta method on log loss.

        Raises InputError where no covariance is published: such a law is drawn without a band.
        """
        if self.cov is None:
            raise InputError(f"law {self.name!r} was published without a covariance: it has no interval")
        if not 0 < level < 1:
            raise InputError(f"level must lie between 0 and 1, got {level!r}")
        points = [np.asarray(v, dtype=float) for v in x]
        value = self.law.value(self.values, *points)
        slope = self.law.gradient(self.values, *points, working=True) / value  # (k, ...)
        half = special.ndtri(0.5 + level / 2) * np.sqrt(np.einsum("i...,ij,j...->...", slope, self.cov, slope))
        low, high = value * np.exp(-half), value * np.exp(half)
        return (float(low), float(high)) if low.ndim == 0 else (low, high)

    def beyond(self, at: Mapping[str, float]) -> str:
        """Return why ``at`` (N, D, C by name) lies too far from the law's runs to be answered, or "".

        Too far is further than the runs span, and more than 1.5 decades: the rule that fits obey.
        """
        for name in [v for v in self.law.variables if v in at and v in self.fit_range]:
            low, high = self.fit_range[name]
            decades = max(np.log10(at[name] / high), np.log10(low / at[name]))
            if decades > max(FAR_DECADES, np.log10(high / low)):
                return (
                    f"{name} = {at[name]:.3g} lies {decades:.1f} decades outside the runs of this law, whose {name} "
                    f"goes from {low:.3g} to {high:.3g}"
                )
        return ""

    def __str__(self) -> str:
        return f"{self.title} [{self.tag}; {self.source}]: {self.law.formula}"


@dataclass(frozen=True)
class PublishedPower:
    """quantity = coefficient C^exponent: an optimal size, token count, batch or rate for a budget C.

    ``coefficient`` is None where only the exponent is published; ``unit_of_c`` is "FLOP" or "PF-days".
    """

    name: str
    quantity: str
    coefficient: float | None
    exponent: float
    unit_of_c: str
    unit: str
    source: str
    tag: str
    note: str = ""

    def at(self, flops: ArrayLike) -> Any:
        """Return the quantity at a budget in FLOP; raises InputError where only the exponent is published."""
        if self.coefficient is None:
            raise InputError(f"{self.name!r} is published as an exponent only ({self.exponent:g})")
        c = np.asarray(flops, dtype=float)
        if not np.all(np.isfinite(c) & (c > 0)):
            raise InputError("flops must be finite and above zero")
        value = self.coefficient * (c / PF_DAY if self.unit_of_c == "PF-days" else c) ** self.exponent
        return float(value) if value.ndim == 0 else value


@dataclass(frozen=True)
class Model:
    """A published model. Counts that were not published are None. ``tag`` "rumour" is in the name as well."""

    family: str
    name: str
    n_params: float
    n_params_active: float | None
    n_tokens: float
    flops: float | None
    source: str
    tag: str
    note: str = ""


@functools.cache
def models() -> tuple[Model, ...]:
    """Return every published model, from GPT-3 to the rumour about GPT-4."""
    return tuple(
        Model(
            family=row["family"],
            name=row["model"],
            n_params=float(row["n_params"]),
            n_params_active=_number(row["n_params_active"]),
            n_tokens=float(row["n_tokens"]),
            flops=_number(row["flops"]),
            source=row["source"],
            tag=row["tag"],
            note=row["note"],
        )
        for row in read("models")
    )


def total_params(n_non_embedding: ArrayLike) -> Any:
    """Return total N for non-embedding N, vocabulary 32,000: N + 47491 N^(1/3) [Pearce & Song 2024]."""
    row = read("conversions")[0]
    n = np.asarray(n_non_embedding, dtype=float)
    if not np.all(np.isfinite(n) & (n > 0)):
        raise InputError("n_non_embedding must be finite and above zero")
    value = n + float(row["coefficient"]) * n ** float(row["exponent"])
    return float(value) if value.ndim == 0 else value


def _number(text: str) -> float | None:
    return float(text) if text else None


def _law(row: Mapping[str, str]) -> PublishedLaw:
    """Return the law of one row of laws.csv with its parameters in the form's own parametrisation."""
    law = POWER_C if row["form"] == "power_c" else get_law(row["form"])
    given: dict[str, float] = {}
    stderr: dict[str, float] = {}
    for p in read("law_parameters"):
        if p["law"] != row["law"]:
            continue
        name, value = p["parameter"], float(p["value"])
        if name.startswith("ln "):
            name, value = name[3:], float(np.exp(value))
        if p["unit"] == "PF-days":
            value *= PF_DAY
        given[name] = value
        if p["stderr"]:
            stderr[name] = float(p["stderr"])
    if len(law.variables) == 1:
        exponent = given[law.param_names[2]]
        # Printed as (x_c / x)^exponent, or as a coefficient per PF-days^exponent.
        per = given["coefficient"] * PF_DAY**exponent if "coefficient" in given else given["x_c"] ** exponent
        given = {"E": given.get("E", 0.0), law.param_names[1]: per, law.param_names[2]: exponent}
    cov = None
    if row["law"] == "chinchilla-epoch":
        cov = np.array([[float(r[name]) for name in law.param_names] for r in read("chinchilla_epoch_covariance")])
    n_range, d_range = ((float(row[f"{v}_min"]), float(row[f"{v}_max"])) for v in ("n", "d"))
    c_range = 6 * n_range[0] * d_range[0], 6 * n_range[1] * d_range[1]
    return PublishedLaw(
        name=row["law"],
        title=row["title"],
        law=law,
        params=MappingProxyType({name: given[name] for name in law.param_names}),
        corpus=row["corpus"],
        tokenizer=row["tokenizer"],
        source=row["source"],
        tag=row["tag"],
        note=row["note"],
        stderr=MappingProxyType(stderr),
        cov=cov,
        fit_range=MappingProxyType({"N": n_range, "D": d_range, "C": c_range}),
    )


def _power(row: Mapping[str, str]) -> PublishedPower:
    return PublishedPower(
        name=row["name"],
        quantity=row["quantity"],
        coefficient=_number(row["coefficient"]),
        exponent=float(row["exponent"]),
        unit_of_c=row["unit_of_c"],
        unit=row["unit"],
        source=row["source"],
        tag=row["tag"],
        note=row["note"],
    )


def __getattr__(name: str) -> Any:
    made: Mapping[str, Any]
    if name == "laws":
        made = MappingProxyType({row["law"]: _law(row) for row in read("laws")})
    elif name == "optima":
        made = MappingProxyType({row["name"]: _power(row) for row in read("optima")})
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made

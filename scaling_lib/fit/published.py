"""Published laws, models and runs, each with its source and a tag that says how it is known.

Tags: P read in the authors' own repository or data, T a verbatim transcription of the paper, S secondary, C
computed from the others, ``rumour`` unconfirmed (GPT-4, and only GPT-4). The numbers live in
``tables/*.csv``.

``laws`` maps a name to a :class:`PublishedLaw`: ``published.laws["chinchilla-epoch"].predict(175e9,
300e9)``. Losses of different corpora or tokenizers are not comparable: compare exponents only.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from scaling_lib.errors import InputError
from scaling_lib.files import cache_folder
from scaling_lib.fit.check import check_level, choice, positive_flops
from scaling_lib.fit.headings import show
from scaling_lib.fit.laws import FAR_DECADES, Law, get_law
from scaling_lib.fit.table import RunTable, read_table, table_from_arrays

Floats = NDArray[np.float64]
T = TypeVar("T")
PF_DAY = 8.64e19  # FLOP: 1e15 a second for a day
EPOCH_FILE = "chinchilla_epoch.csv"
EPOCH_URL = (
    "https://raw.githubusercontent.com/epoch-research/analyzing-chinchilla/"
    "92258837425e1b5f2851d624287f0120583a3d0e/data/svg_extracted_data.csv"
)
EPOCH_SHA256 = "193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30"

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
        check_level(level)
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
        c = positive_flops(flops)
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
def read(name: str) -> tuple[Mapping[str, str], ...]:
    """Return the rows of a shipped table such as "models", as text; each row has its source and tag."""
    folder = resources.files("scaling_lib.fit") / "tables"
    try:
        text = (folder / f"{name}.csv").read_text(encoding="utf-8")
    except OSError:
        has = ", ".join(sorted(p.name.removesuffix(".csv") for p in folder.iterdir() if p.name.endswith(".csv")))
        raise InputError(f"no published table {name!r}: choose one of {has}") from None
    return tuple(MappingProxyType(row) for row in csv.DictReader(text.splitlines()))


def _made(kind: type[T], row: Mapping[str, str], **others: Any) -> T:
    """A record from a row with its fields by name; of numbers an empty cell is None."""
    texts = {f.name: f.type for f in fields(kind) if f.name not in others and f.name in row}  # type: ignore[arg-type]
    cells = {k: row[k] if t == "str" else float(row[k]) if row[k] else None for k, t in texts.items()}
    return kind(**cells, **others)


@functools.cache
def models() -> tuple[Model, ...]:
    """Return every published model, from GPT-3 to the rumour about GPT-4."""
    return tuple(_made(Model, row) for row in read("models"))


def _law(row: Mapping[str, str]) -> PublishedLaw:
    """Return the law of one row of laws.csv with its parameters in the form's own parametrisation."""
    law = get_law(row["form"])
    given: dict[str, float] = {}
    stderr: dict[str, float] = {}
    for p in (p for p in read("law_parameters") if p["law"] == row["name"]):
        name, value = p["parameter"].removeprefix("ln "), float(p["value"])
        given[name] = float(np.exp(value)) if p["parameter"] != name else value
        given[name] *= PF_DAY if p["unit"] == "PF-days" else 1.0
        if p["stderr"]:
            stderr[name] = float(p["stderr"])
    if len(law.variables) == 1:
        exponent = given[law.param_names[2]]
        # Printed as (x_c / x)^exponent, or as a coefficient per PF-days^exponent.
        per = given["coefficient"] * PF_DAY**exponent if "coefficient" in given else given["x_c"] ** exponent
        given = {"E": 0.0, **given, law.param_names[1]: per}
    cov = [r for r in read("chinchilla_epoch_covariance") if r["law"] == row["name"]]
    n, d = ((float(row[f"{v}_min"]), float(row[f"{v}_max"])) for v in ("n", "d"))
    return _made(
        PublishedLaw,
        row,
        law=law,
        params=MappingProxyType({name: given[name] for name in law.param_names}),
        stderr=MappingProxyType(stderr),
        cov=np.array([[float(r[name]) for name in law.param_names] for r in cov]) if cov else None,
        fit_range=MappingProxyType({"N": n, "D": d, "C": (6 * n[0] * d[0], 6 * n[1] * d[1])}),
    )


def __getattr__(name: str) -> Any:
    made: Mapping[str, Any]
    if name == "laws":
        made = {row["name"]: _law(row) for row in read("laws")}
    elif name == "optima":
        made = {row["name"]: _made(PublishedPower, row) for row in read("optima")}
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = MappingProxyType(made)
    return globals()[name]


# ---- runs ------------------------------------------------------------------------


def _family(name: str, source: str, **columns: str) -> RunTable:
    """A shipped family of models as runs; ``columns`` : argument of `table_from_arrays` -> heading."""
    rows = read(name)
    numbers = {argument: [float(r[heading]) for r in rows] for argument, heading in columns.items()}
    return table_from_arrays(numbers.pop("loss"), **numbers, labels=[r["name"] for r in rows], source=source)


def cerebras_gpt(losses: str = "paper") -> RunTable:
    """Return Cerebras-GPT's seven runs (Pile test loss, 20 tokens per parameter).

    The paper's row and the model cards' disagree; ``losses`` is "paper" (the default everywhere) or
    "model_card".
    """
    loss = f"loss_{choice('losses', losses, ('paper', 'model_card'))}"
    source = f"Cerebras-GPT, {losses.replace('_', ' ')}"
    return _family("cerebras_gpt", source, loss=loss, n_params="n_params", n_tokens="n_tokens", flops="flops")


def pythia(convention: str = "non_embedding") -> RunTable:
    """Return Pythia's eight runs (Pile loss, 300B tokens each) with N "non_embedding" or "total"."""
    n_params = f"n_params_{choice('convention', convention, ('non_embedding', 'total'))}"
    source = f"Pythia, {convention.replace('_', '-')} N"
    return _family("pythia", source, loss="loss", n_params=n_params, n_tokens="n_tokens")


def epoch_runs(path: str | os.PathLike[str] | None = None, *, all_runs: bool = False) -> RunTable:
    """Return Chinchilla's runs as Epoch read them off the paper's figure 4 [Besiroglu et al. 2024].

    The file is not part of this package. Looked for in turn: ``path``; the folder named by the environment
    variable SCALING_LIB_DATA; the user's cache; EPOCH_URL, fetched once. Its SHA-256 is checked in each case.

    Parameters
    ----------
    path : the CSV file, if you have it.
    all_runs : all 245; by default the 240 whose loss lies below the fifth largest, as in the study.

    Raises
    ------
    InputError : where the file cannot be had, or is another one.
    """
    at_hand = Path(os.environ.get("SCALING_LIB_DATA") or ".") / EPOCH_FILE
    if path is None:
        path = at_hand if os.environ.get("SCALING_LIB_DATA") and at_hand.is_file() else _fetch()
    shown = show(os.fspath(path))
    try:
        found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({error.strerror}); give the path of the CSV file") from None
    if found != EPOCH_SHA256:
        raise InputError(f"{shown}: another file than expected, SHA-256 {found[:12]}, not {EPOCH_SHA256[:12]}")
    table = replace(read_table(path), source="Chinchilla's runs by Epoch")
    return table if all_runs else table.select(table.loss < np.sort(table.loss)[-5])


def _fetch() -> Path:
    """Return the cached copy of the Epoch file, fetched and checked if need be."""
    import pooch

    try:
        return Path(
            pooch.retrieve(EPOCH_URL, known_hash=f"sha256:{EPOCH_SHA256}", fname=EPOCH_FILE, path=cache_folder())
        )
    except Exception as error:  # no network, a proxy's page, a full disk: pooch raises whatever its downloader raised
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"Epoch's table could not be fetched ({type(error).__name__}: {reason}); download {EPOCH_URL} "
            f"and pass its path, or put it as {EPOCH_FILE} into the folder that SCALING_LIB_DATA names"
        ) from None

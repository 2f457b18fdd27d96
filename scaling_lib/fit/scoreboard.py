"""Which form? Ranked by hidden runs (fit the small ones, predict the large), never by how well each form fits.

:func:`compare_laws` ranks forms on one set of runs, beside the two answers anybody could give without a law. A form
that does not beat them has shown nothing, and forms that predict equally well and disagree at the target show how much
of the answer is the choice of form.

:func:`scoreboard` takes every table at hand and hides the runs within a factor of 2, 4, 10 and 30 of the largest
compute in turn. Counted are the mean absolute error, how many 90% intervals of a new run held, their median half-width,
and the mean interval score. All are shares of the loss. Where the pool's verdict refuses, no prediction is quoted: that
cut is shown, but counts in no form's total.
"""

from __future__ import annotations

import html as markup
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check, published
from scaling_lib.fit.backtests import backtest, choose_law, interval_score, line, nearest, size_of, spacing
from scaling_lib.fit.estimate import fit_law
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law, get_law
from scaling_lib.fit.published import EPOCH_FILE
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import RunTable, read_table
from scaling_lib.words import aligned

LINE, NEAREST = "straight line in the logarithms", "nearest trained run"
ALIKE = 1.5  # forms within this factor of the best one's held-out error, or of 0.1%, have predicted equally well
CUTS = (2.0, 4.0, 10.0, 30.0)
LEVEL = 0.9
POOL = "pool"
JOINT = ("chinchilla", "power_mean", "kaplan", "line")
LEAST_HIDDEN, LEAST_FITTED = 2, 5
REFUSED = ("not identifiable", "no trend")
SHIPPED = ("gemstones", "cs336_isoflop")


# ---- forms on one set of runs ----------------------------------------------------


@dataclass(frozen=True)
class FormScore:
    """One form's record.

    name : text. n_params : free parameters.
    held_out : mean absolute relative error on hidden runs (inf if it could not be fitted); worst : the largest.
    folds : hidden steps scored. in_sample : root mean squared log residual on all runs.
    prediction : at the target, None without one. fit : on all runs, None for the two baselines.
    """

    name: str
    n_params: int
    held_out: float = np.inf
    worst: float = np.inf
    folds: int = 0
    in_sample: float = 0.0
    prediction: float | None = None
    fit: FitResult | None = None


@dataclass(frozen=True)
class Comparison:
    """Forms, best held-out record first.

    scores : the ranking. target : the point predicted at, or None.
    spread : least and largest prediction there among the forms that did as well as the best law, or None.
    beaten : laws that did no better than a baseline.
    """

    scores: tuple[FormScore, ...]
    target: tuple[float, ...] | None
    spread: tuple[float, float] | None
    beaten: tuple[str, ...]

    @property
    def best(self) -> FormScore:
        """The form with the least held-out error."""
        return self.scores[0]

    def summary(self) -> str:
        """The ranking as text, with the spread at the target in words."""
        rows: list[tuple[str, ...]] = [("form", "parameters", "held-out error", "worst", "in-sample rms", "prediction")]
        for s in self.scores:
            hidden, worst = (f"{100 * v:.2f}%" if np.isfinite(v) else "" for v in (s.held_out, s.worst))
            there = "-" if s.prediction is None else f"{s.prediction:.4g}"
            sample = f"{100 * s.in_sample:.2f}%"
            rows.append((s.name, str(s.n_params), hidden or "could not be fitted", worst or "-", sample, there))
        lines = [aligned(rows)]
        if self.spread is not None:
            low, high = self.spread
            lines.append(
                f"forms that predicted the hidden runs as well as the best law range from {low:.4g} to {high:.4g} "
                f"at the target ({100 * (high / low - 1):.1f}%)"
            )
        if self.beaten:
            lines.append(f"no better than a baseline: {', '.join(self.beaten)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{markup.escape(self.summary())}</pre>"


def compare_laws(
    x: Any,
    loss: Any,
    *,
    n_tokens: Any = None,
    variable: str = "N",
    target: Any = None,
    forms: Sequence[str | Law] | None = None,
    known_floor: float | None = None,
    objective: str = "log_mse",
    folds: int = 3,
) -> Comparison:
    """Rank forms by their error on hidden larger runs, and show how far they disagree at the target.

    Parameters
    ----------
    x : (n,) sizes, or tokens with ``variable="D"``. n_tokens : (n,) tokens: then x is sizes and the laws are joint.
    loss : (n,). target : N, D, or (N, D) to predict at.
    forms : names of laws; by default every form these runs have enough distinct points for. A law with a floor is tried
        with E free and with E = 0, and with ``known_floor`` if given.
    folds : steps hidden: the runs are ordered by x (by N D for joint laws); each of the last ``folds`` distinct values
        (a tenth of the runs for joint sweeps) is predicted from all that lies below it.

    Raises
    ------
    InputError
        As the fits; ``folds`` below 1 or too large for the runs.
    """
    joint = n_tokens is not None
    names = ("N", "D") if joint else (check.choice("variable", variable, ("N", "D")),)
    data = check.columns((*names, "loss"), (x, n_tokens, loss) if joint else (x, loss))
    columns, y = tuple(data[v] for v in names), data["loss"]
    order = np.prod(columns, axis=0)
    steps = _steps(order, folds, joint)
    hidden = [(order >= low) & (order < high) for low, high in steps]
    seen = [*(order < low for low, _ in steps), np.ones(len(y), dtype=bool)]
    at: tuple[Array, ...] | None = None
    if target is not None:
        at = check.targets(names, tuple(target) if isinstance(target, tuple | list) else (target,))[0]

    def take(rows: Array) -> tuple[Array, ...]:
        return tuple(c[rows] for c in columns)

    def score(name: str, k: int, said: Sequence[Callable[..., Any]], fit: FitResult | None = None) -> FormScore:
        """``said`` : what predicts losses, from the rows seen before each step, and at last from all."""
        errors = [np.abs(f(*take(h)) / y[h] - 1.0) for f, h in zip(said, hidden, strict=False)]
        mean, worst = float(np.concatenate(errors).mean()), float(np.concatenate(errors).max())
        rms = float(np.sqrt(np.mean(np.log(said[-1](*columns) / y) ** 2)))
        return FormScore(name, k, mean, worst, len(steps), rms, None if at is None else float(said[-1](*at)[0]), fit)

    scores = []
    for name, law, fixed in _candidates(names, forms, known_floor):
        k = law.n_params - len(fixed)
        if k + 1 <= int(seen[0].sum()):
            fits = [fit_law(law, take(rows), y[rows], objective=objective, fixed=fixed) for rows in seen]
            scores.append(score(name, k, [fit.predict for fit in fits], fits[-1]))
        elif forms is not None:
            scores.append(FormScore(name, k))
    for name, k, rule in ((LINE, len(names) + 1, line), (NEAREST, 0, nearest)):
        learnt = [partial(rule, take(rows), y[rows]) for rows in seen]
        scores.append(score(name, k, [lambda *to, rule=rule: rule(to) for rule in learnt]))
    scores.sort(key=lambda s: s.held_out)
    bar = min(s.held_out for s in scores if s.name in (LINE, NEAREST))
    laws = [s for s in scores if s.fit is not None]
    beaten = tuple(s.name for s in scores if s.name not in (LINE, NEAREST) and s.held_out >= bar)
    limit = max(ALIKE * laws[0].held_out, laws[0].held_out + 0.001) if laws else 0.0
    alike = [s.prediction for s in laws if s.held_out <= limit and s.prediction is not None]
    point = None if at is None else tuple(float(v[0]) for v in at)
    return Comparison(tuple(scores), point, (min(alike), max(alike)) if alike else None, beaten)


def _steps(order: Array, folds: int, joint: bool) -> list[tuple[float, float]]:
    """(low, high) of the ordering value of each hidden step."""
    values = np.unique(order)
    if not isinstance(folds, int) or folds < 1:
        raise InputError(f"folds={folds!r} must be a whole number of 1 or more")
    width = max(1, len(values) // 10) if joint else 1
    if len(values) < 3 + folds * width:
        raise InputError(f"{len(values)} distinct sizes are too few to hide {folds * width} of them: lower folds")
    return list(itertools.pairwise([*values[-folds * width :: width].tolist(), np.inf]))


def _candidates(
    names: tuple[str, ...], forms: Sequence[str | Law] | None, known_floor: float | None
) -> list[tuple[str, Law, dict[str, float]]]:
    """Name, law and held parameters of each form to try."""
    one = names[0].lower()
    usual = (f"power_{one}", f"broken_{one}") if len(names) == 1 else (*JOINT[:3], "over_training")
    out: list[tuple[str, Law, dict[str, float]]] = []
    for law in map(get_law, usual if forms is None else forms):
        if law.variables != names:
            raise InputError(f"law {law.name!r} is one of {', '.join(law.variables)}, the runs of {', '.join(names)}")
        if "E" not in law.param_names:
            out.append((law.name, law, {}))
            continue
        out.append((f"{law.name}, E free", law, {}))
        if not law.name.startswith("broken"):
            out.append((f"{law.name}, E = 0", law, {"E": 0.0}))
            if known_floor is not None:
                out.append((f"{law.name}, E = {known_floor:g} known", law, {"E": known_floor}))
    return out


# ---- forms on every table --------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """One way to predict, on one table at one cut.

    table, form : names. cut : runs of more than the largest compute over ``cut`` were hidden. hidden : how many.
    error : mean absolute error. held : number of 90% intervals of a new run that held. half_width : their median.
    score : mean interval score. All but held are relative to the loss. level : the pool's verdict, "" for others.
    """

    table: str
    cut: float
    form: str
    hidden: int
    error: float
    held: int
    half_width: float
    score: float
    level: str


def tables() -> dict[str, RunTable]:
    """The shipped tables of runs, and those of the folder that the variable SCALING_LIB_DATA names, by name."""
    folder = Path(__file__).parent / "tables" / "runs"
    out = {"cerebras": published.cerebras_gpt(), "pythia": published.pythia()}
    out |= {name: read_table(folder / f"{name}.csv") for name in SHIPPED}
    data = os.environ.get("SCALING_LIB_DATA")
    for path in sorted((Path(data) / "zoo").glob("*.csv")) if data else ():
        out.setdefault(path.stem, read_table(path))
    if data and (Path(data) / EPOCH_FILE).exists():
        out["epoch"] = published.epoch_runs()
    return out


def scoreboard(of: Mapping[str, RunTable] | None = None, cuts: Iterable[float] = CUTS) -> tuple[Score, ...]:
    """Score the pool, each form alone and the nearest run on tables of runs, by default all of `tables`.

    Cuts that hide fewer than two runs, or leave fewer than five, are left out, as is one that hides the same runs as
    the cut before it.

    Raises
    ------
    InputError : no table has a cut that can be scored.
    """
    out: list[Score] = []
    for name, table in (tables() if of is None else of).items():
        size, seen = size_of(table), 0
        for cut in cuts:
            hidden = size > size.max() / cut
            count = int(hidden.sum())
            if count >= LEAST_HIDDEN and count != seen and len(table) - count >= LEAST_FITTED:
                out += _scores(name, table, cut, hidden)
            seen = count
    if not out:
        raise InputError("no table has enough runs to hide some: give tables of 7 runs or more that span a factor of 2")
    return tuple(out)


def _scores(name: str, table: RunTable, cut: float, hidden: Array) -> list[Score]:
    chosen = choose_law(table)
    forms: list[tuple[str, str | Law, dict[str, float]]] = [(law, law, {}) for law in JOINT]
    if len(chosen.variables) == 1:
        forms = [("power law", chosen, {}), ("line", chosen, {"E": 0.0})]
    said: list[tuple[str, Array, Array, Array, str]] = []
    for form, law, fixed in [(POOL, "auto", {}), *forms]:
        try:
            r = backtest(table, hide=hidden, law=law, fixed=fixed, level=LEVEL)
        except InputError:  # too few runs for this form
            continue
        said.append((form, r.predicted, r.low, r.high, r.verdict.level if form == POOL else ""))
    x, loss, observed = [table.get(v) for v in chosen.variables], table.loss[~hidden], table.loss[hidden]
    known = tuple(v[~hidden] for v in x)
    guess, half = nearest(known, loss, tuple(v[hidden] for v in x)), np.exp(spacing(known, loss, LEVEL))
    return [
        Score(
            table=name,
            cut=cut,
            form=form,
            hidden=len(observed),
            error=float(np.mean(np.abs(predicted / observed - 1.0))),
            held=int(np.sum((low <= observed) & (observed <= high))),
            half_width=float(np.median((high - low) / (2.0 * predicted))),
            score=float(np.mean(interval_score(observed, low, high, LEVEL))),
            level=level,
        )
        for form, predicted, low, high, level in [*said, ("nearest run", guess, guess / half, guess * half, "")]
    ]


def pooled_scores(scores: Iterable[Score]) -> dict[str, tuple[int, float, float, float, float]]:
    """For each form: hidden runs, mean error and share held over runs, median half-width and mean score over cuts."""
    out, quoted = {}, _quoted(scores := tuple(scores))
    for form in dict.fromkeys(s.form for s in quoted):
        own = [s for s in quoted if s.form == form]
        runs = sum(s.hidden for s in own)
        error, held = sum(s.error * s.hidden for s in own) / runs, sum(s.held for s in own) / runs
        out[form] = (
            runs,
            error,
            held,
            float(np.median([s.half_width for s in own])),
            float(np.mean([s.score for s in own])),
        )
    return out


def _quoted(scores: Sequence[Score]) -> list[Score]:
    """Those of tables and cuts at which the pool's verdict did not refuse."""
    refused = {(s.table, s.cut) for s in scores if s.level in REFUSED}
    return [s for s in scores if (s.table, s.cut) not in refused]


def as_markdown(scores: Iterable[Score]) -> str:
    """The pool on every table and cut; then every form, over all cuts and by table."""
    scores = tuple(scores)
    lines = ["| table, cut | hidden | error | held | half-width | score | verdict |", "|---|---|---|---|---|---|---|"]
    for s in (s for s in scores if s.form == POOL):
        found = f"{100 * s.error:.2f}% | {s.held / s.hidden:.0%} | {100 * s.half_width:.2f}% | {100 * s.score:.2f}%"
        if s.level == "no trend":  # there is no law whose intervals could be counted
            found = "- | - | - | -"
        lines.append(f"| {s.table}, {s.cut:g}x | {s.hidden} | {found} | {s.level} |")
    lines += ["", "| form, all cuts | hidden | error | held | half-width | score |", "|---|---|---|---|---|---|"]
    for form, (runs, error, held, half, score) in pooled_scores(scores).items():
        lines.append(f"| {form} | {runs} | {100 * error:.2f}% | {held:.0%} | {100 * half:.2f}% | {100 * score:.2f}% |")
    names = list(dict.fromkeys(s.table for s in _quoted(scores)))
    lines += ["", f"| share held | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for form in dict.fromkeys(s.form for s in scores):
        own = [[s for s in _quoted(scores) if (s.form, s.table) == (form, name)] for name in names]
        shares = [f"{sum(s.held for s in c) / sum(s.hidden for s in c):.0%}" if c else "-" for c in own]
        lines.append(f"| {form} | {' | '.join(shares)} |")
    return "\n".join(lines)

"""The scoreboard: every table at hand, its largest runs hidden, predicted by the pool, each form alone, and no law.

For each table the runs within a factor of 2, 4, 10 and 30 of the largest compute are hidden in turn. Counted are
the mean absolute error, how many 90% intervals of a new run held, their median half-width, and the interval score:
width plus 2 / 0.1 times the miss, in the mean over the hidden runs [Gneiting and Raftery 2007]. An interval that is
narrow and wrong scores badly, and so does one that is wide for nothing. All are shares of the loss. Where the pool's
verdict refuses, no prediction is quoted: that cut is shown, but counts in no form's total.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import baselines, published
from scaling_lib.fit._published_runs import EPOCH_FILE
from scaling_lib.fit.backtests import choose_law
from scaling_lib.fit.estimate import fit_law
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law, get_law
from scaling_lib.fit.table import RunTable, read_table

CUTS = (2.0, 4.0, 10.0, 30.0)
LEVEL = 0.9
POOL, NEAREST = "pool", "nearest run"
JOINT = ("chinchilla", "power_mean", "kaplan", "line")
LEAST_HIDDEN, LEAST_FITTED = 2, 5
REFUSED = ("not identifiable", "no trend")
SHIPPED = ("gemstones", "cs336_isoflop")


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
        size = next(v for v in (table.flops, table.n_params, table.n_tokens) if v is not None)
        seen = 0
        for cut in cuts:
            hidden = size > size.max() / cut
            count = int(hidden.sum())
            if count >= LEAST_HIDDEN and count != seen and len(table) - count >= LEAST_FITTED:
                out += _score(name, table, cut, hidden)
            seen = count
    if not out:
        raise InputError("no table has enough runs to hide some: give tables of 7 runs or more that span a factor of 2")
    return tuple(out)


def _score(name: str, table: RunTable, cut: float, hidden: Array) -> list[Score]:
    chosen = choose_law(table)
    forms: list[tuple[str, Law, dict[str, float]]] = [(POOL, chosen, {})]
    if len(chosen.variables) > 1:
        forms += [(law, get_law(law), {}) for law in JOINT]
    else:
        forms += [("power law", chosen, {}), ("line", chosen, {"E": 0.0})]
    known, x = table.select(~hidden), tuple(table.get(v) for v in chosen.variables)
    fitted, target = tuple(v[~hidden] for v in x), tuple(v[hidden] for v in x)
    observed = table.loss[hidden]
    objective = "huber" if len(x) > 1 else "log_mse"
    out = []
    for form, law, fixed in forms:
        try:
            fit = fit_law(
                law, fitted, known.loss, pool=form == POOL, objective=objective, fixed=fixed, groups=known.groups
            )
        except InputError:  # too few runs for this form
            continue
        low, high = fit.interval(*target, level=LEVEL, kind="new_run")
        level = fit.verdict(*target).level if form == POOL else ""
        out.append(_counted(name, cut, form, observed, fit.predict(*target), low, high, level))
    guess, half = baselines.nearest(fitted, known.loss, target), baselines.spacing(fitted, known.loss, LEVEL)
    out.append(_counted(name, cut, NEAREST, observed, guess, guess * np.exp(-half), guess * np.exp(half), ""))
    return out


def _counted(
    table: str, cut: float, form: str, observed: Array, predicted: Array, low: Array, high: Array, level: str
) -> Score:
    miss = np.maximum(low - observed, 0.0) + np.maximum(observed - high, 0.0)
    return Score(
        table=table,
        cut=cut,
        form=form,
        hidden=len(observed),
        error=float(np.mean(np.abs(predicted / observed - 1.0))),
        held=int(np.sum(miss == 0.0)),
        half_width=float(np.median((high - low) / (2.0 * predicted))),
        score=float(np.mean((high - low + 2.0 / (1.0 - LEVEL) * miss) / observed)),
        level=level,
    )


def pooled_scores(scores: Iterable[Score]) -> dict[str, tuple[int, float, float, float, float]]:
    """For each form: hidden runs, mean error and share held over runs, median half-width and mean score over cuts."""
    out = {}
    scores = tuple(scores)
    refused = {(s.table, s.cut) for s in scores if s.level in REFUSED}
    scores = tuple(s for s in scores if (s.table, s.cut) not in refused)
    for form in dict.fromkeys(s.form for s in scores):
        own = [s for s in scores if s.form == form]
        runs = sum(s.hidden for s in own)
        out[form] = (
            runs,
            sum(s.error * s.hidden for s in own) / runs,
            sum(s.held for s in own) / runs,
            float(np.median([s.half_width for s in own])),
            float(np.mean([s.score for s in own])),
        )
    return out


def as_markdown(scores: Iterable[Score]) -> str:
    """The pool on every table and cut; then every form, over all cuts and by table."""
    scores = tuple(scores)
    lines = ["| table, cut | hidden | error | held | half-width | score | verdict |", "|---|---|---|---|---|---|---|"]
    for s in scores:
        if s.form == POOL:
            lines.append(
                f"| {s.table}, {s.cut:g}x | {s.hidden} | {100 * s.error:.2f}% | {s.held / s.hidden:.0%} | "
                f"{100 * s.half_width:.2f}% | {100 * s.score:.2f}% | {s.level} |"
            )
    lines += ["", "| form, all cuts | hidden | error | held | half-width | score |", "|---|---|---|---|---|---|"]
    for form, (runs, error, held, half, score) in pooled_scores(scores).items():
        lines.append(f"| {form} | {runs} | {100 * error:.2f}% | {held:.0%} | {100 * half:.2f}% | {100 * score:.2f}% |")
    quoted = {(s.table, s.cut) for s in scores if s.form == POOL and s.level not in REFUSED}
    names = list(dict.fromkeys(name for name, _ in quoted))
    lines += ["", f"| share held | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for form in dict.fromkeys(s.form for s in scores):
        cells = []
        for name in names:
            own = [s for s in scores if s.form == form and s.table == name and (s.table, s.cut) in quoted]
            cells.append(f"{sum(s.held for s in own) / sum(s.hidden for s in own):.0%}" if own else "-")
        lines.append(f"| {form} | {' | '.join(cells)} |")
    return "\n".join(lines)

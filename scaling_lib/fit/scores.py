"""The scoreboard: which form of law predicts the largest runs of other people's tables best?

Of each table the runs within a factor of 2, 4, 10 and 30 of the largest compute are hidden in turn. Counted are the
mean absolute error, how many 90% intervals of a new run held, their median half-width, and the mean interval score, all
as shares of the loss. A form that does not beat the nearest run has shown nothing. Where the pool's verdict refuses, no
prediction is quoted: that cut is shown, but counts in no form's total.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.backtests import backtest, choose_law, interval_score, nearest, size_of, spacing
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.rows import RunTable
from scaling_lib.fit.table import read_table

MADE = "cs336_isoflop"  # a table of losses that a form made without noise
CUTS = (2.0, 4.0, 10.0, 30.0)
LEVEL = 0.9
POOL = "pool"
JOINT = ("chinchilla", "power_mean", "kaplan", "line")
LEAST_HIDDEN, LEAST_FITTED = 2, 5
REFUSED = ("not identifiable", "no trend")


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
    """The shipped tables of runs, and those of the folder that the variable SCALING_LIB_DATA names, by name.

    Without `MADE`, which says nothing about how well forms predict runs.
    """
    gemstones = Path(__file__).parent / "tables" / "runs" / "gemstones.csv"
    out = {"cerebras": published.cerebras_gpt(), "pythia": published.pythia(), "gemstones": read_table(gemstones)}
    data = os.environ.get("SCALING_LIB_DATA")
    for path in sorted((Path(data) / "zoo").glob("*.csv")) if data else ():
        if path.stem not in {MADE, *out}:
            out[path.stem] = read_table(path)
    if data and (Path(data) / published.EPOCH_FILE).exists():
        out["epoch"] = published.epoch_runs()
    return out


def scoreboard(of: Mapping[str, RunTable] | None = None, cuts: Iterable[float] = CUTS) -> tuple[Score, ...]:
    """Score the pool, each form alone and the nearest run on tables of runs, by default all of `tables`.

    Cuts that hide fewer than two runs, or leave fewer than five, are left out, as is one that hides the same runs as
    the cut before it. Raises InputError where no table has a cut that is left.

    Examples
    --------
    >>> print(as_markdown(scoreboard({"mine": read_table("runs.csv")})))  # doctest: +SKIP
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
    forms: list[tuple[str, str | Law, dict[str, float]]] = [(POOL, "auto", {}), *((law, law, {}) for law in JOINT)]
    if len(chosen.variables) == 1:
        forms[1:] = [("power law", chosen, {}), ("line", chosen, {"E": 0.0})]
    said: list[tuple[str, Array, Array, Array, str]] = []
    for form, law, fixed in forms:
        try:
            r = backtest(table, hide=hidden, law=law, fixed=fixed, level=LEVEL)
        except InputError:  # too few runs for this form
            continue
        said.append((form, r.predicted, r.low, r.high, r.verdict.level if form == POOL else ""))
    known, target = (tuple(table.get(v)[rows] for v in chosen.variables) for rows in (~hidden, hidden))
    loss, observed = table.loss[~hidden], table.loss[hidden]
    guess, half = nearest(known, loss, target), np.exp(spacing(known, loss, LEVEL))
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
    out, quoted = {}, _quoted(tuple(scores))
    for form in dict.fromkeys(s.form for s in quoted):
        own = [s for s in quoted if s.form == form]
        runs = sum(s.hidden for s in own)
        error, held = sum(s.error * s.hidden for s in own) / runs, sum(s.held for s in own) / runs
        half, score = np.median([s.half_width for s in own]), np.mean([s.score for s in own])
        out[form] = (runs, error, held, float(half), float(score))
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

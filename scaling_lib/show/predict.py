"""A loss at a target by the laws of a folder, a table or a published name; or a refusal, which is an answer too."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.fit import published, report
from scaling_lib.fit.allocate import Allocation, compute_optimal
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.report import Target
from scaling_lib.fit.report import parse_target as parse_target
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import read_table
from scaling_lib.runs import read_runs
from scaling_lib.show.grids import find_grids
from scaling_lib.show.ladders import COUNT, find_ladders
from scaling_lib.words import printable, short

# ---- where, and by what ----------------------------------------------------------


@dataclass(frozen=True)
class OneLaw:
    """One law that can be asked.

    what : its runs in words. fit : None where there is none, then ``why_not``. held : what all its runs share, by
    ``"N"``, ``"D"`` or ``"D/N"``: elsewhere the law says nothing.
    """

    what: str
    variables: tuple[str, ...]
    fit: FitResult | PublishedLaw | None
    why_not: str = ""
    held: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Laws:
    """What was named, and the laws that it bears; ``about`` says what its losses are of."""

    name: str
    about: str
    laws: tuple[OneLaw, ...]
    loss_unit: str = "nats per token"


def find_source(name: str, recipe: str | None = None, law: str = "auto", **reading: Any) -> Laws:
    """The laws that a folder of records, a table of runs or a published law's name stands for.

    Parameters
    ----------
    recipe : whose runs of a folder; by default the last on the way from V1 to V2, or wsd.
    law : the form fitted to a table (see ``fit.backtests.choose_law`` for "auto").
    reading : how a table is read: columns, where and rows, as ``fit.read_table`` takes them.

    Raises InputError for a name that is none of the three, a recipe that the folder lacks, or what reading and
    fitting refuse.
    """
    path, own = Path(name), published.laws.get(name.lower())
    if (path.is_dir() or own) and (reading or law != "auto"):
        what = "a folder's laws follow from its runs" if path.is_dir() else "this is one published law"
        raise InputError(f"{name}: --{next(iter(reading), 'law')} is for .csv files; {what}: leave it out")
    if path.is_dir():
        return _folder(path, recipe)
    if recipe is not None:
        raise InputError(f"--recipe is for folders of run records, and {name!r} is none; leave it out")
    if own:
        about = f"{own.corpus}, {own.tokenizer}; {own.source}" + (f"; {own.note}" if own.note else "")
        return Laws(name, about, (OneLaw(f"{own.title}: {own.law.formula}", own.law.variables, own),))
    if path.suffix.lower() == ".csv" or path.is_file():
        made = report.fit_table(read_table(path, **reading), law=law)
        form, n = made.fit.law, made.fit.n_points
        held = report.held_counts(made.table, form.variables)
        about = "; ".join([f"a table of {n} runs", *report.about_reading(made.table)])
        one = OneLaw(f"{form.formula}, {n} runs", form.variables, made.fit, held=held)
        return Laws(made.table.source, about, (one,), made.table.loss_unit)
    raise InputError(
        f"{name!r} is neither a folder of run records nor a .csv file nor a published law, which are "
        + ", ".join(published.laws)
    )


def _folder(folder: Path, recipe: str | None) -> Laws:
    """The ladders of one recipe, and the joint law where its runs form a grid."""
    runs = read_runs(folder)
    ladders = find_ladders(runs)
    there = list(dict.fromkeys([x.recipe for x in ladders] + [r.config.train.recipe for r in runs]))
    if recipe is not None and recipe not in there:
        raise InputError(f"{folder}: no runs of recipe {recipe!r}; it holds {', '.join(there)}")
    chosen = recipe or (ladders[-1].recipe if ladders else there[-1])
    laws = [
        OneLaw(f"joint law {grid.fit.law.formula}, {len(grid.runs)} runs", ("N", "D"), grid.fit)
        for grid in find_grids(runs)
        if grid.recipe == chosen
    ]
    for x in (x for x in ladders if x.recipe == chosen):
        what = f"L({x.variable}) of {len(x.runs)} runs, {x.held}"
        what += f"; left out, not finished: {len(x.left_out)}" if x.left_out else ""
        other = "D" if x.variable == "N" else "N"
        laws.append(OneLaw(what, (x.variable,), x.fit, x.why_not, {other: x.runs[0].counts[COUNT[other]]}))
    others = ", ".join(r.upper() for r in there if r != chosen)
    about = (
        f"recipe {chosen.upper()}" + (f" (--recipe chooses; also here: {others})" if others else "") + ", "
        f"{runs[0].corpus['name']}, vocabulary {runs[0].config.model.vocab_size:,}; N without embeddings"
    )
    return Laws(printable(str(folder)), about, tuple(laws))


# ---- the answer ------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A prediction, or a refusal whose numbers are None.

    at : N, D, C of the target, with the best split where the target is a budget alone. law : whose answer it is.
    mean_interval, new_run_interval : (low, high) in the source's loss unit; inf where the data set no limit, None
        where none can be had.
    optimal : of a budget alone: N, D, tokens per parameter, and intervals of N and D where known.
    """

    target: str
    at: Mapping[str, float]
    law: str
    verdict: str
    refused: bool
    reasons: tuple[str, ...]
    loss: float | None = None
    mean_interval: tuple[float, float] | None = None
    new_run_interval: tuple[float, float] | None = None
    optimal: dict[str, Any] | None = None
    note: str = ""


def ask(source: Laws, target: Target, level: float = 0.9) -> list[Answer]:
    """What the source's laws say at the target: the joint law alone where it can answer, else all that can."""
    able = [x for x in source.laws if report.can_answer(x.variables, target.at)]
    joint = [x for x in able if len(x.variables) > 1]
    if able:
        return [_answer(x, target, level) for x in joint or able]
    why = report.lacking(target.at, *(x.variables for x in source.laws))
    if not source.laws:
        why = "fewer than three sizes, or lengths of one size, have finished"
    return [_refusal(target, "", "no law", why)]


def _refusal(target: Target, law: str, verdict: str, *reasons: str) -> Answer:
    return Answer(target.name, target.at, law, verdict, True, reasons, note=target.note)


def _answer(law: OneLaw, target: Target, level: float) -> Answer:
    if law.fit is None:
        return _refusal(target, law.what, "no fit", law.why_not)
    if isinstance(law.fit, PublishedLaw):
        return _by_published(law, law.fit, target, level)
    p = report.ask(law.fit, target.at, level, law.held)
    at, best = (target.at, None) if p.refused else ({**target.at, **p.target}, p.best)
    return Answer(
        target.name, at, law.what, p.level, p.refused, p.reasons, p.loss, p.mean, p.new_run, _split(best), target.note
    )


def _by_published(law: OneLaw, fit: PublishedLaw, target: Target, level: float) -> Answer:
    """A published law's answer: its runs are not here, so there is no verdict, only its range."""
    at, best = dict(target.at), None
    if set(at) == {"C"} and law.variables == ("N", "D"):
        best = compute_optimal(fit, at["C"], level=level)
        at = {"N": float(best.n_params), "D": float(best.n_tokens), **at}
    if "U" in law.variables:
        at["U"] = at["D"]  # no token twice
    elsewhere = report.elsewhere(at, law.variables, law.held)
    if far := fit.beyond(at):
        return _refusal(target, law.what, "out of range", far)
    if elsewhere and target.exact:
        return _refusal(target, law.what, "no law", elsewhere)
    reasons = [f"a published law: its runs are not here to judge it by; losses are of {fit.corpus} alone"]
    reasons += ["every token is taken as seen once (U = D)"] if "U" in law.variables else []
    reasons += [elsewhere.partition(":")[0]] if elsewhere else []
    x = [at[v] for v in law.variables]
    mean = None if fit.cov is None else fit.interval(*x, level=level)
    return Answer(
        target.name, at, law.what, "published", False, tuple(reasons), fit.predict(*x), mean, None, _split(best),
        target.note,
    )  # fmt: skip


def _split(best: Allocation | None) -> dict[str, Any] | None:
    names = ("n_params", "n_tokens", "tokens_per_param", "n_interval", "d_interval", "at_edge")
    return None if best is None else {name: getattr(best, name) for name in names}


# ---- in words --------------------------------------------------------------------


def in_words(source: Laws, answers: Sequence[Answer], level: float) -> str:
    """Every answer as a short paragraph, under what the source is."""
    lines = _wrapped(f"{source.name}: {source.about}", "")
    last = None
    for a in answers:
        if a.target != last:
            counts = ", ".join(
                f"{f'{a.at[k]:.3g}' if k == 'C' else short(a.at[k])} {report.UNITS[k]}" for k in "NDC" if k in a.at
            )
            lines += ["", *_wrapped(f"{a.target}: {counts}" + (f" ({a.note})" if a.note else ""), "")]
        last = a.target
        lines += _wrapped(a.law, "  ") if a.law else []
        for text in [*_said(a, source.loss_unit, level), *(f"- {reason}" for reason in a.reasons)]:
            lines += _wrapped(text, "    ")
    return "\n".join(lines)


def _said(a: Answer, unit: str, level: float) -> list[str]:
    """The best split of a budget, and the loss with its intervals."""
    if a.loss is None:
        return [f"no prediction: {a.verdict}"]
    out = []
    if a.optimal is not None:
        parts = [f"best split: {a.optimal['tokens_per_param']:.3g} tokens per parameter"]
        for name, key in (("N", "n_interval"), ("D", "d_interval")):
            if a.optimal[key]:
                parts.append(f"{level:.0%} interval of {name} {' to '.join(short(v) for v in a.optimal[key])}")
        out.append("; ".join(parts))
    text = f"{a.loss:.4g} {unit} ({a.verdict})"
    if a.mean_interval is None:
        return [*out, f"{text}; no interval: no covariance is published"]
    text += f"; {level:.0%} interval of the law {_range(a.mean_interval)}"
    return [*out, text + (f", of a new run {_range(a.new_run_interval)}" if a.new_run_interval else "")]


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.4g} to {pair[1]:.4g}" if math.isfinite(pair[1]) else f"{pair[0]:.4g} upwards, without an end"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)

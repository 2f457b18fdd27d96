"""What can be asked for a loss, and where: the laws of a folder, a table or a published name, and targets in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.fit import published, report
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import read_table
from scaling_lib.runs import read_runs
from scaling_lib.show.grids import find_grids
from scaling_lib.show.ladders import Ladder, find_ladders


@dataclass(frozen=True)
class Target:
    """Where a loss is wanted: a name, and those of N (parameters), D (tokens), C (FLOP) that are known."""

    name: str
    at: dict[str, float]
    note: str = ""
    exact: bool = True  # False for a model by its name: all its counts are known, not all of them asked about


@dataclass(frozen=True)
class SourceLaw:
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
    laws: tuple[SourceLaw, ...]
    loss_unit: str = "nats per token"


def parse_target(text: str) -> Target:
    """Read ``N=1e9,D=2e10``, ``C=1e21`` or the name of a published model.

    Raises
    ------
    InputError
        For a name that is not known (it lists those that are), or counts that cannot be read.
    """
    if "=" not in text:
        return _known_model(text)
    at = report.counts(text)
    return Target(", ".join(f"{k} = {v:.4g}" for k, v in at.items()), report.completed(at))


def _known_model(text: str) -> Target:
    """A model by its name, or by its family's: then the family's largest."""

    def bare(name: str) -> str:
        return "".join(c for c in name.lower() if c.isalnum() or c == ".")  # 1.3B is not 13B

    models, wanted = published.models(), bare(text)
    found = [m for m in models if wanted == bare(m.name)]
    found = found or [m for m in models if wanted and wanted in (bare(m.family), bare(m.name.split("(")[0]))]
    if not found:
        raise InputError(
            f"no model is known as {text!r}: write numbers such as N=1e9,D=2e10, or one of "
            + ", ".join(m.name for m in models)
        )
    m = max(found, key=lambda m: m.n_params)
    at = {"N": m.n_params, "D": m.n_tokens} | ({} if m.flops is None else {"C": m.flops})
    return Target(m.name, report.completed(at), f"rumour: {m.note}" if m.tag == "rumour" else "", exact=False)


def find_source(name: str, recipe: str | None = None, law: str = "auto", **reading: Any) -> Laws:
    """The laws that a folder of records, a table of runs or a published law's name stands for.

    Parameters
    ----------
    recipe : whose runs of a folder; by default the last on the way from V1 to V2, or wsd.
    law : the form fitted to a table (see ``fit.backtests.choose_law`` for "auto").
    reading : how a table is read: columns, where and rows, as ``fit.read_table`` takes them.

    Raises
    ------
    InputError
        For a name that is none of the three, a recipe that the folder lacks, or what reading and fitting refuse.
    """
    path = Path(name)
    is_law = name.lower() in published.laws
    if reading and (path.is_dir() or is_law):
        raise InputError(f"{name}: --{next(iter(reading))} is for .csv files; leave it out")
    if path.is_dir():
        if law != "auto":
            raise InputError(f"{name}: --law is for .csv files; a folder's laws follow from its runs: leave it out")
        return _folder(path, recipe)
    if recipe is not None:
        raise InputError(f"--recipe is for folders of run records, and {name!r} is none; leave it out")
    if is_law:
        if law != "auto":
            raise InputError(f"--law is for .csv files; {name} is one published law: leave it out")
        found = published.laws[name.lower()]
        about = f"{found.corpus}, {found.tokenizer}; {found.source}" + (f"; {found.note}" if found.note else "")
        return Laws(name, about, (SourceLaw(f"{found.title}: {found.law.formula}", found.law.variables, found),))
    if path.suffix.lower() == ".csv" or path.is_file():
        made = report.fit_table(read_table(path, **reading), law=law)
        fit, what = made.fit, f"{made.fit.law.formula}, {made.fit.n_points} runs"
        one = SourceLaw(what, fit.law.variables, fit, held=report.held_counts(made.table, fit.law.variables))
        about = "; ".join([f"a table of {fit.n_points} runs", *report.about_reading(made.table)])
        return Laws(name, about, (one,), made.table.loss_unit)
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
        SourceLaw(f"joint law {grid.fit.law.formula}, {len(grid.runs)} runs", ("N", "D"), grid.fit)
        for grid in find_grids(runs)
        if grid.recipe == chosen
    ]
    laws += [_ladder(x) for x in ladders if x.recipe == chosen]
    others = ", ".join(r.upper() for r in there if r != chosen)
    about = (
        f"recipe {chosen.upper()}" + (f" (--recipe chooses; also here: {others})" if others else "") + ", "
        f"{runs[0].corpus['name']}, vocabulary {runs[0].config.model.vocab_size:,}; N without embeddings"
    )
    return Laws(str(folder), about, tuple(laws))


def _ladder(ladder: Ladder) -> SourceLaw:
    what = f"L({ladder.variable}) of {len(ladder.runs)} runs, {ladder.held}"
    if ladder.left_out:
        what += f"; left out, not finished: {len(ladder.left_out)}"
    first = ladder.runs[0].counts
    held = {"D": first["n_tokens"]} if ladder.variable == "N" else {"N": first["n_params_non_embedding"]}
    return SourceLaw(what, (ladder.variable,), ladder.fit, ladder.why_not, held)

"""A sweep in words: its runs, its laws with their verdicts, and what they may say of large models."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np

from scaling_lib.config import ModelConfig
from scaling_lib.fit import published
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run
from scaling_lib.show.grids import Grid, find_grids
from scaling_lib.show.ladders import Ladder, find_ladders, short
from scaling_lib.show.studies import study_texts
from scaling_lib.words import aligned

# What people ask a scaling law: a name, the variable, where. Sizes and tokens come from the published table.
QUESTIONS = (
    ("GPT-3", "N", "GPT-3 175B"),
    ("GPT-4 (rumour)", "N", "GPT-4 (rumour)"),
    ("Llama 3", "D", "Llama 3 405B"),
)


def sweep_report(runs: Sequence[Run]) -> str:
    """Everything a sweep's records say: runs, ladders, laws, predictions or why there are none. Plain text."""
    ladders = find_ladders(runs)
    parts = [_sizes(runs, ladders), *(_data_table(x) for x in ladders if x.variable == "D")]
    laws = ["No law: fewer than three sizes, or lengths of one size, have finished."]
    if ladders:
        laws = ["Laws, fitted to the final validation losses (nats per token); brackets hold 90%", *map(_law, ladders)]
    in_laws = {run_id for x in ladders for run_id in x.left_out}
    parts += [
        *laws, *map(grid_report, find_grids(runs)), *study_texts(runs), _predictions(runs, ladders),
        _list("Diverged, and in no fit", [r.run_id for r in runs if not r.finished and r.run_id not in in_laws]),
        _list("More than one epoch (text seen twice)", [r.run_id for r in runs if r.more_than_one_epoch]),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _sizes(runs: Sequence[Run], ladders: Sequence[Ladder]) -> str:
    """Size by size: first -> last loss of each recipe, and seconds."""
    by_n = [x for x in ladders if x.variable == "N"]
    if not by_n:
        return aligned([("run", "loss", "seconds"), *((r.run_id, _first_last(r), f"{r.seconds:.1f}") for r in runs)])
    members: dict[tuple[str, ModelConfig], list[Run]] = {}
    for ladder in by_n:
        for run in [*ladder.runs, *(r for r in runs if r.run_id in ladder.left_out)]:
            members.setdefault((ladder.recipe, run.config.model), []).append(run)
    rows = [("model", "parameters", "in all", *(x.recipe.upper() for x in by_n), "seconds")]
    for model in dict.fromkeys(r.config.model for r in runs):
        cells = [members.get((x.recipe, model), []) for x in by_n]
        if present := [r for cell in cells for r in cell]:
            counts = [f"{present[0].counts[key]:,.0f}" for key in ("n_params_non_embedding", "n_params")]
            rows.append((model.name, *counts, *map(_mean_first_last, cells), f"{sum(r.seconds for r in present):.1f}"))
    seeds = max(len(cell) for cell in members.values())
    return (
        f"Parameter scaling: validation loss in nats per token, first -> last\n{aligned(rows)}\n"
        + (f"Means over up to {seeds} seeds.\n" if seeds > 1 else "")
        + "Parameters without embeddings, and in all. A model that knows nothing has a loss of ln(vocabulary) = "
        f"{math.log(runs[0].config.model.vocab_size):.2f}."
    )


def _mean_first_last(cell: Sequence[Run]) -> str:
    """One cell of the table: the run's losses, or the means over its seeds; one that diverged is not averaged away."""
    diverged = next((r for r in cell if not r.finished), None)
    if len(cell) < 2 or diverged:
        return _first_last(diverged or cell[0]) if cell else "-"
    first = [r.first_loss for r in cell if r.first_loss is not None]
    last = [r.val_loss for r in cell if r.val_loss is not None]
    return f"{sum(first) / len(first):.2f} -> {sum(last) / len(last):.3f}"


def _first_last(run: Run) -> str:
    first = f"{run.first_loss:.2f}" if run.first_loss is not None else "?"
    return f"{first} -> {run.val_loss:.3f}" if run.finished and run.val_loss is not None else f"{first} -> diverged"


def _data_table(ladder: Ladder) -> str:
    rows = [("tokens", "loss", "seconds")]
    rows += [(f"{r.counts['n_tokens']:,.0f}", _first_last(r), f"{r.seconds:.1f}") for r in ladder.runs]
    return f"Data scaling, {ladder.recipe.upper()}, {ladder.held}\n{aligned(rows, 0)}"


def _law(ladder: Ladder) -> str:
    lost = [f"  left out, not finished: {', '.join(ladder.left_out)}"] if ladder.left_out else []
    said = _fit(ladder.fit) if ladder.fit else [f"  no fit: {ladder.why_not}"]
    title = f"{ladder.recipe.upper()}, L({ladder.variable}), {len(ladder.runs)} runs, {ladder.held}"
    return "\n".join([title, *lost, *said])


def _fit(fit: FitResult) -> list[str]:
    verdict = fit.verdict()
    if verdict.level == "no trend":  # parameters of a law through noise are noise: do not print them
        return _wrapped(f"verdict: {verdict}")
    values = ", ".join(_parameter(fit, name) for name in fit.law.param_names)
    scatter = f"Scatter {100 * fit.sigma:.2f}% of the loss; R-squared {fit.r2:.4f}, which any smooth fall reaches"
    return [*_wrapped(f"{fit.law.formula}: {values}"), *_wrapped(f"{scatter}; verdict within the data: {verdict}")]


def _parameter(fit: FitResult, name: str) -> str:
    if name in fit.diagnostics["at_bound"]:
        return f"{name} at its bound ({fit.params[name]:.0f})"
    low, high = fit.parameter_interval(name)
    return f"{name} = {fit.params[name]:.3g} [{low:.3g}, {high:.3g}]"


def grid_report(grid: Grid) -> str:
    """The losses cell by cell, the joint law with its verdict, and the held-out cells. Plain text."""
    lengths = sorted({r.counts["n_tokens"] for r in grid.runs})
    rows = [("model", "parameters", *map(short, lengths))]
    for model in dict.fromkeys(r.config.model for r in grid.runs):
        own = [r for r in grid.runs if r.config.model == model]
        cells = [[r.val_loss or math.nan for r in own if r.counts["n_tokens"] == d] for d in lengths]
        losses = [f"{sum(cell) / len(cell):.3f}" if cell else "-" for cell in cells]
        rows.append((model.name, f"{own[0].counts['n_params_non_embedding']:,.0f}", *losses))
    trunks = len(set(np.asarray(grid.table.groups).tolist()))
    shared = f" on {trunks} trunks" if grid.recipe == "wsd" else f" of {trunks} models and seeds"
    seeds = len({r.config.train.seed for r in grid.runs})
    means = ", means over seeds" if seeds > 1 else ""
    hidden = ["Held out: the largest size and the longest runs, predicted from the rest"]
    if grid.recipe == "wsd":
        hidden.append("(the longest runs continue trunks whose shorter runs are in the fit)")
    return "\n".join([
        f"{grid.recipe.upper()}: loss by size and tokens (nats per token{means})", aligned(rows), "",
        f"Joint law, {len(grid.runs)} runs{shared}", *_fit(grid.fit), "", *hidden, grid.held_out.summary(20),
    ])  # fmt: skip


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")


def _list(what: str, names: Sequence[str]) -> str:
    text = f"{what}: {', '.join(names)}" if names else ""
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)


def _predictions(runs: Sequence[Run], ladders: Sequence[Ladder]) -> str:
    """What the last recipe's laws say of the models that people ask about, or why they cannot."""
    if not ladders:
        return ""
    lines, refused, models = ["Predictions for large models"], False, {m.name: m for m in published.models()}
    laws = {x.variable: x.fit for x in ladders if x.recipe == ladders[-1].recipe}
    for name, variable, key in QUESTIONS:
        fit, at = laws.get(variable), models[key].n_params if variable == "N" else models[key].n_tokens
        if fit is None:
            continue
        verdict = fit.verdict(at)
        refused |= verdict.refused
        said = f"no prediction; {'; '.join(verdict.reasons)}"
        if not verdict.refused:
            low, high = fit.interval(at, level=0.9)
            said = f"{fit.predict(at):.2f} nats, 90% interval {low:.2f} to {high:.2f} ({verdict})"
        lines += _wrapped(f"{name}, {short(at)} {'parameters' if variable == 'N' else 'tokens'}: {said}")
    if refused:
        largest = max(r.counts["n_params_non_embedding"] for x in ladders for r in x.runs)
        spent = sum(r.seconds for r in runs)
        lines += _wrapped(
            f"A sweep of {short(spent)} seconds of training, up to {short(largest)} parameters, cannot predict "
            "GPT-4. The losses are also of this corpus and this tokenizer: in nats per token they compare with no "
            "others."
        )
    return "\n".join(lines)

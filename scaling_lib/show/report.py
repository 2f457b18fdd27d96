"""A sweep in words: its runs, its laws with their verdicts, and what they may say of large models."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from scaling_lib.config import ModelConfig
from scaling_lib.fit import published
from scaling_lib.runs import Run
from scaling_lib.show.grids import find_grids, grid_report
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
    if ladders:
        parts += [
            "Laws, fitted to the final validation losses (nats per token); brackets hold 90%",
            *(_law(x) for x in ladders),
        ]
    else:
        parts.append("No law: fewer than three sizes, or lengths of one size, have finished.")
    parts += [*(grid_report(grid) for grid in find_grids(runs)), *study_texts(runs)]
    parts.append(_predictions(runs, ladders))
    flagged = [r.run_id for r in runs if r.more_than_one_epoch]
    in_laws = {run_id for x in ladders for run_id in x.left_out}
    lost = [r.run_id for r in runs if not r.finished and r.run_id not in in_laws]
    if lost:
        parts.append(_list("Diverged, and in no fit", lost))
    if flagged:
        parts.append(_list("More than one epoch (text seen twice)", flagged))
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
    title = f"{ladder.recipe.upper()}, L({ladder.variable}), {len(ladder.runs)} runs, {ladder.held}"
    out = [title]
    if ladder.left_out:
        out.append(f"  left out, not finished: {', '.join(ladder.left_out)}")
    if ladder.fit is None:
        return "\n".join([*out, f"  no fit: {ladder.why_not}"])
    fit = ladder.fit
    verdict = fit.verdict()
    if verdict.level == "no trend":  # parameters of a law through noise are noise: do not print them
        return "\n".join([*out, *_wrapped(f"verdict: {verdict}")])
    values = ", ".join(_parameter(ladder, name) for name in fit.law.param_names)
    out.append(f"  {fit.law.formula}: {values}")
    out += _wrapped(f"R-squared {fit.r2:.4f}, which any smooth fall reaches; verdict within the data: {verdict}")
    return "\n".join(out)


def _parameter(ladder: Ladder, name: str) -> str:
    fit = ladder.fit
    assert fit is not None
    if name in fit.diagnostics["at_bound"]:
        return f"{name} at its bound ({fit.params[name]:.0f})"
    low, high = fit.parameter_interval(name)
    return f"{name} = {fit.params[name]:.3g} [{low:.3g}, {high:.3g}]"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")


def _list(what: str, names: Sequence[str]) -> str:
    return textwrap.fill(f"{what}: {', '.join(names)}", 100, subsequent_indent="  ", break_on_hyphens=False)


def _predictions(runs: Sequence[Run], ladders: Sequence[Ladder]) -> str:
    """What the last recipe's laws say of the models that people ask about, or why they cannot."""
    lines = ["Predictions for large models"]
    if not ladders:
        return ""
    recipe = ladders[-1].recipe
    models = {m.name: m for m in published.models()}
    refused = 0
    for name, variable, key in QUESTIONS:
        ladder = next((x for x in ladders if x.recipe == recipe and x.variable == variable), None)
        if ladder is None or ladder.fit is None:
            continue
        model = models[key]
        at = model.n_params if variable == "N" else model.n_tokens
        assert at is not None
        what = f"{name}, {short(at)} {'parameters' if variable == 'N' else 'tokens'}"
        verdict = ladder.fit.verdict(at)
        if verdict.refused:
            refused += 1
            lines += _wrapped(f"{what}: no prediction; {'; '.join(verdict.reasons)}")
        else:
            low, high = ladder.fit.interval(at, level=0.9)
            lines += _wrapped(
                f"{what}: {ladder.fit.predict(at):.2f} nats, 90% interval {low:.2f} to {high:.2f} ({verdict})"
            )
    if refused:
        largest = max(r.counts["n_params_non_embedding"] for x in ladders for r in x.runs)
        spent = sum(r.seconds for r in runs)
        lines += _wrapped(
            f"A sweep of {short(spent)} seconds of training, up to {short(largest)} parameters, cannot predict "
            "GPT-4. The losses are also of this corpus and this tokenizer: in nats per token they compare with "
            "no others."
        )
    return "\n".join(lines)

"""A comparison of two sweeps, or of recipes, as tables, one paragraph and a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_lib.show.ladders import short
from scaling_lib.show.plot import LOOKS, plot_fit
from scaling_lib.show.tokenizers import Tokenizers, plot_tokenizers
from scaling_lib.show.versus import Change, Side, Versus
from scaling_lib.words import counted, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEK = {"alpha": "α", "beta": "β"}


def tables(versus: Versus) -> str:
    """What was trained, the exponents with their verdicts, and the losses where they may be compared."""
    return "\n\n".join([_trained(versus), _exponents(versus), _losses(versus)])


def _trained(versus: Versus) -> str:
    width = max(len(s.label) for s in versus.sides)
    rows = [f"{'':<{width}} {'runs':>5} {'largest N':>10} {'largest D':>10} {'training':>9}  text"]
    for s in versus.sides:
        n, d = s.largest
        rows.append(
            f"{s.label:<{width}} {len(s.runs):>5} {short(n):>10} {short(d):>10} {duration(s.seconds):>9}  {s.text}"
        )
    lost = [r.run_id for s in versus.sides for r in s.runs if not r.finished]
    if lost:
        rows.append(_filled(f"Diverged, and in no fit: {', '.join(lost)}"))
    return "\n".join(rows)


def _exponents(versus: Versus) -> str:
    if not _names(versus):
        return "No exponent: fewer than three sizes, or lengths of one size, have finished."
    width = max(len(s.label) for s in versus.sides)
    rows = [f"{'exponent':<16} {'':<{width}} {'value':>7} {'90% interval':>16}  verdict"]
    for name in _names(versus):
        for s in versus.sides:
            if name in s.exponents:
                e = s.exponents[name]
                value = "-" if e.value is None else f"{e.value:.3f}"
                interval = "-" if e.value is None else f"{e.low:.3f} to {e.high:.3f}"
                rows.append(f"{name:<16} {s.label:<{width}} {value:>7} {interval:>16}  {e.verdict}")
    return "\n".join(rows)


def _names(versus: Versus) -> list[str]:
    return list(dict.fromkeys(name for s in versus.sides for name in s.exponents))


def _losses(versus: Versus) -> str:
    if versus.why_not_losses:
        why = f"Losses are not compared: {versus.why_not_losses}."
        why = _filled(f"{why} Nats per token compare within one text and vocabulary.")
        return f"{why}\n\n{versus.tokenizers.summary()}" if versus.tokenizers else why
    if not versus.of_recipes:
        return "Losses are of one text and one vocabulary and may be compared: see what was right and wrong."
    if not versus.changes:
        return "No size was trained by the first recipe and the last with a common seed: no losses to compare."
    rows = [
        f"{'loss (nats per token)':<22}" + "".join(f" {s.label:>12}" for s in versus.sides) + "   first to last, 90%"
    ]
    for c in versus.changes:
        row = f"{c.model:<22}"
        ends = {versus.sides[0].label: c.loss_before, versus.sides[-1].label: c.loss_after}  # over common seeds
        for s in versus.sides:
            at = next((s.losses(r.config.model) for r in s.runs if r.config.model.name == c.model), {})
            loss = ends.get(s.label, np.mean(list(at.values())) if at else None)
            row += f" {'-':>12}" if loss is None else f" {loss:>12.3f}"
        rows.append(f"{row}   {c}")
    if versus.way:
        rows += ["", f"One change at a time, at {versus.way[0].model}, paired by seed"]
        rows += [f"  {c.before} to {c.after}: {c}" for c in versus.way]
    return "\n".join(rows)


# ---- one paragraph ---------------------------------------------------------------


def paragraph(versus: Versus) -> str:
    """What the comparison says, in a few sentences."""
    return _filled(" ".join(_of_recipes(versus) if versus.of_recipes else _of_sweeps(versus)))


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_on_hyphens=False)


def _of_sweeps(versus: Versus) -> list[str]:
    quick, real = versus.sides
    said = [f"The quick look, {_described(quick)}, is measured by the larger sweep, {_described(real)}."]
    if versus.tokenizers:
        said = [f"One text under two vocabularies: {_described(quick)} and {_described(real)}."]
    if versus.why_not_losses:
        said.append(
            f"Exponents are compared and losses are not: {versus.why_not_losses}, and each text "
            "and vocabulary may have exponents of its own."
        )
        if versus.tokenizers:
            said.append(_in_bits(versus.tokenizers))
    else:
        said.append("Both read one text with one vocabulary, so losses may be compared too.")
    said += _different_places(quick, real)
    if not versus.findings:
        return [*said, "Nothing that the one measured was measured by the other."]
    for right, word in ((True, "Right"), (False, "Wrong"), (None, "Left open")):
        found = [f.text for f in versus.findings if f.right is right]
        said.append(f"{word}: {'; '.join(found)}." if found else f"{word}: nothing.")
    return said


def _in_bits(found: Tokenizers) -> str:
    """The largest shape's three answers."""
    shape = found.largest
    largest = [c for c in found.cells if c.shape == shape]
    answers = ", ".join(f"{100 * c.change:+.1f}% at equal {c.equal}" for c in largest)
    a, b = found.vocabularies
    said = f"In bits per byte, at {shape}, the vocabulary of {b:,} lies from that of {a:,} by {answers}."
    return f"{said} {found.caveat}".rstrip()


def _described(side: Side) -> str:
    (n, d), count = side.largest, len(side.runs)
    return (
        f"{side.label} ({counted(count, 'run')}, {duration(side.seconds)} of training, up to {short(n)} "
        f"parameters and {short(d)} tokens)"
    )


def _different_places(quick: Side, real: Side) -> list[str]:
    """Ladders at different lengths, or of different models, share an exponent only under an additive law."""
    places = []
    for variable, column, unit in (("N", "n_tokens", "tokens"), ("D", "n_params_non_embedding", "parameters")):
        if variable in quick.ladders and variable in real.ladders:
            a, b = (s.ladders[variable].runs[0].counts[column] for s in (quick, real))
            if max(a, b) > 1.05 * min(a, b):
                places.append(f"in {variable} at {short(a)} and at {short(b)} {unit}")
    if not places:
        return []
    return [f"Their ladders stand {' and '.join(places)}; an additive law would have the same exponents at both."]


def _of_recipes(versus: Versus) -> list[str]:
    first, last = versus.sides[0], versus.sides[-1]
    said = [f"{versus.name}, {first.text}."]
    for name in _names(versus):
        told = [f"{s.label} {s.exponents[name]}" for s in (first, last) if name in s.exponents]
        said.append(f"{name}: {', '.join(told)}.")
    if versus.why_not_losses:
        return [*said, f"Losses are not compared: {versus.why_not_losses}."]
    said += _spent(first, last)
    if versus.changes:
        small, large = versus.changes[0], versus.changes[-1]
        said.append(f"From {first.label} to {last.label} the loss changes by {_at(small)}" + (
            f" and by {_at(large)}." if large is not small else "."
        ))  # fmt: skip
    if versus.way:
        most = min(versus.way, key=lambda c: c.change)
        said.append(
            f"On the way there, at {most.model}, the step from {most.before} to {most.after} does most: {most}; "
            "the others: " + ", ".join(f"{c.after} {c}" for c in versus.way if c is not most) + "."
        )  # fmt: skip
    return said


def _at(change: Change) -> str:
    return f"{change} at {change.model}"


def _spent(first: Side, last: Side) -> list[str]:
    """Whether the last recipe saw more tokens at a size: then the recipes are not alone in what differs."""
    ladders = [s.ladders["N"].runs[0].counts["n_tokens"] for s in (first, last) if "N" in s.ladders]
    if len(ladders) < 2 or max(ladders) < 1.05 * min(ladders):
        return []
    return [f"At each size {last.label} trains on {ladders[1] / ladders[0]:.3g} times the tokens of {first.label}."]


def to_dict(versus: Versus) -> dict[str, Any]:
    """Return the comparison as plain data."""
    return {
        "name": versus.name,
        "of_recipes": versus.of_recipes,
        "sides": [
            {
                "label": s.label, "recipe": s.recipe, "runs": len(s.runs), "text": s.text, "seconds": s.seconds,
                "largest_n": s.largest[0], "largest_d": s.largest[1],
                "exponents": {
                    name: {"value": e.value, "low": e.low, "high": e.high, "verdict": e.verdict}
                    for name, e in s.exponents.items()
                },
            }
            for s in versus.sides
        ],
        "why_not_losses": versus.why_not_losses or None,
        "tokenizers": asdict(versus.tokenizers) if versus.tokenizers else None,
        "changes": [_change(c) for c in versus.changes],
        "one_change_at_a_time": [_change(c) for c in versus.way],
        "findings": [{"right": f.right, "text": f.text} for f in versus.findings],
        "paragraph": " ".join(paragraph(versus).split()),
    }  # fmt: skip


def _change(c: Change) -> dict[str, Any]:
    return {
        "model": c.model, "before": c.before, "after": c.after, "loss_before": c.loss_before,
        "loss_after": c.loss_after, "change": c.change, "low": c.low, "high": c.high, "seeds": c.seeds,
    }  # fmt: skip


# ---- the figure ------------------------------------------------------------------


def plot_versus(versus: Versus, figure: Figure | None = None) -> Figure:
    """Draw the exponents with their intervals beside the ladders; each text has panels of its own."""
    import matplotlib.pyplot as plt

    figure = figure or plt.figure(figsize=(11, 8))
    columns = [versus.sides] if versus.of_recipes else [(s,) for s in versus.sides]
    grid = figure.add_gridspec(
        2, 1 + len(columns), width_ratios=[1.15 if len(columns) > 1 else 0.8, *[1] * len(columns)]
    )
    if versus.tokenizers:
        plot_exponents(versus, figure.add_subplot(grid[0, 0]))
        plot_tokenizers(versus.tokenizers, figure.add_subplot(grid[1, 0]))
    else:
        plot_exponents(versus, figure.add_subplot(grid[:, 0]))
    for column, sides in enumerate(columns, 1):
        for row, variable in enumerate("ND"):
            axes = figure.add_subplot(grid[row, column])
            _panel(axes, sides, variable, "" if versus.of_recipes else sides[0].label)
    return figure


def _panel(axes: Axes, sides: Sequence[Side], variable: str, title: str) -> None:
    for s in sides:
        if variable in s.ladders:
            plot_fit(s.ladders[variable], axes, extrapolate=3.0)
    what = "Parameter scaling" if variable == "N" else "Data scaling"
    if title and variable == "N":
        axes.set_title(f"{title}\n{sides[0].text}", fontsize="medium")
    elif not title:
        axes.set_title(what)
    if axes.lines:
        axes.legend(fontsize="small")
    else:
        axes.text(
            0.5, 0.5, f"no ladder in {variable}", ha="center", va="center", transform=axes.transAxes, color="#666666"
        )
        axes.set_xticks([])
        axes.set_yticks([])


def plot_exponents(versus: Versus, axes: Axes | None = None) -> Axes:
    """Draw every exponent with its 90% interval, a row for each side; a refused one is its verdict in words."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    ticks, place = [], 0.0
    right = _right_end(versus)
    for name in _names(versus):
        rows = [s for s in versus.sides if name in s.exponents]
        symbol, _, law = name.partition(" of ")
        axes.text(0.02 * right, place - 0.75, f"{GREEK[symbol]} of {law}", fontweight="bold", va="center")
        for s in rows:
            e = s.exponents[name]
            colour, marker = LOOKS.get(s.recipe, ("#000000", "o"))
            ticks.append((place, s.label))
            if e.value is None:
                axes.text(0.02 * right, place, e.verdict, va="center", fontsize="small", color=colour)
            else:
                low, high = max(e.low, 0.0), min(e.high, right)
                axes.plot([low, high], [place, place], color=colour, linewidth=2)
                axes.plot(min(e.value, right), place, marker, color=colour, markersize=8)
                axes.annotate(
                    e.verdict, (high, place), (5, 0), textcoords="offset points",
                    va="center", fontsize="x-small", color="#555555",
                )  # fmt: skip
            place += 1
        place += 1.2
    axes.set_yticks([p for p, _ in ticks], [label for _, label in ticks])
    axes.set_ylim(place - 1.2, -1.5)
    axes.set_xlim(0, right * 1.35)
    axes.set_xlabel("exponent, with 90% interval")
    axes.set_title("Exponents")
    axes.grid(axis="y", visible=False)
    return axes


def _right_end(versus: Versus) -> float:
    """Where the axis of exponents ends: at the highest interval, but not far beyond the highest value."""
    given = [e for s in versus.sides for e in s.exponents.values() if e.value is not None]
    if not given:
        return 1.0
    return float(min(max(e.high for e in given), 2.5 * max(e.value or 0.0 for e in given)))

"""Two sweeps, or the recipes of one, side by side: a table of exponents, a table of losses, and a figure.

Losses are compared within one text and vocabulary only; across texts the exponents are, and across vocabularies of one
text the bits per byte. The sweep that cost fewer FLOPs is the quick look, and the other one judges it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.grids import find_grids
from scaling_lib.show.ladders import ORDER, Ladder, at_shared_length, find_ladders, short, text_of
from scaling_lib.show.noise import half_width, of_recipe, pairs
from scaling_lib.show.plot import GREEK, LEVEL, Row, legend_above, plot_fit, plot_intervals, say_instead
from scaling_lib.show.tokenizers import Tokenizers, compare_tokenizers, plot_tokenizers
from scaling_lib.words import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VAGUE = 3.0  # an interval from x to 3x excludes little
ENOUGH = 0.75  # of the losses inside their 90% intervals: of a handful, one may miss
RIGHT = {True: "right", False: "wrong", None: "open"}


@dataclass(frozen=True)
class Side:
    """The runs of one recipe, under the name that tables give them."""

    label: str
    recipe: str
    runs: tuple[Run, ...]

    @cached_property
    def ladders(self) -> dict[str, Ladder]:
        """The ladders in N and in D, by that letter."""
        return {x.variable: x for x in find_ladders(self.runs)}

    @cached_property
    def exponents(self) -> dict[str, Row]:
        """By a name such as "alpha of L(N)": value, 90% interval and verdict; no value where the verdict refuses."""
        laws = [(x.fit, f"L({v})", [{"N": "alpha", "D": "beta"}[v]]) for v, x in self.ladders.items()]
        laws += [(g.fit, "L(N, D)", ["alpha", "beta"]) for g in find_grids(self.runs)]
        found = {}
        for fit, law, symbols in laws:
            verdict = fit.verdict() if fit else None
            for symbol in symbols:
                row = Row(self.label, None, note=verdict.level if verdict else "no fit", recipe=self.recipe)
                if fit and verdict and not verdict.refused:
                    low, high = fit.parameter_interval(symbol, level=LEVEL)
                    row = row._replace(value=fit.params[symbol], low=low, high=high)
                found[f"{symbol} of {law}"] = row
        return found

    @property
    def text(self) -> str:
        """What its losses are of, in words."""
        return f"{text_of(self.runs[0])}, vocabulary {self.runs[0].config.model.vocab_size:,}"


@dataclass(frozen=True)
class Change:
    """Loss of one recipe minus that of another at one model, paired by seed: nats per token, 90% interval.

    low, high : NaN with fewer than two common seeds.
    """

    model: str
    before: str
    after: str
    loss_before: float
    loss_after: float
    change: float
    seeds: int
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.change:+.3f} nats (one seed, so without an interval)"
        return f"{self.change:+.3f} [{self.low:+.3f}, {self.high:+.3f}] nats"


@dataclass(frozen=True)
class Versus:
    """A comparison. ``sides`` : the quick look and the real sweep, or (``of_recipes``) the recipes of one folder."""

    name: str
    sides: tuple[Side, ...]
    of_recipes: bool

    @property
    def why_not_losses(self) -> str:
        """Why the losses may not be compared, or "" where they may."""
        first, last = self.sides[0].runs[0], self.sides[-1].runs[0]
        if first.corpus["fingerprint"] != last.corpus["fingerprint"]:
            names = (f"{text_of(r)} {str(r.corpus['fingerprint'])[:8]}" for r in (first, last))
            return f"the texts differ ({', '.join(names)})"
        sizes = [r.config.model.vocab_size for r in (first, last)]
        return "" if sizes[0] == sizes[1] else f"the vocabularies differ ({sizes[0]:,} and {sizes[1]:,})"

    @cached_property
    def tokenizers(self) -> Tokenizers | None:
        """The two in bits per byte, where they read one text under two vocabularies and trained shapes in common."""
        try:
            several = self.why_not_losses.startswith("the vocabularies") and not self.of_recipes
            return compare_tokenizers(self.sides[0].runs, self.sides[-1].runs) if several else None
        except InputError:
            return None  # nothing in common: the exponents stand alone

    @cached_property
    def changes(self) -> list[Change]:
        """From the first recipe to the last, at every model that both have; smallest first."""
        return _changes(self.sides[0], self.sides[-1]) if self.of_recipes else []

    @cached_property
    def way(self) -> list[Change]:
        """From each recipe to the next, at the largest model that all have."""
        if len(self.sides) < 3:
            return []
        steps = [_changes(a, b) for a, b in zip(self.sides, self.sides[1:], strict=False)]
        common = set.intersection(*({c.model for c in found} for found in steps))
        largest = next((c.model for c in reversed(self.changes) if c.model in common), None)
        return [c for found in steps for c in found if c.model == largest]

    @cached_property
    def findings(self) -> list[tuple[bool | None, str]]:
        """What the quick look got right (True) and wrong (False), or what the two do not settle (None), in words."""
        if self.of_recipes:
            return []
        quick, real = self.sides
        found = [_judge(n, row, real.exponents[n]) for n, row in quick.exponents.items() if n in real.exponents]
        return found if self.why_not_losses else [*found, *_beyond(quick, real)]


# ---- what is compared ------------------------------------------------------------


def compare_recipes(runs: Sequence[Run], name: str, recipes: Sequence[str] = ()) -> Versus:
    """The recipes of one folder, first against last; ``recipes`` names those wanted, by default all.

    Raises
    ------
    InputError
        When fewer than two recipes are there, or a wanted one is not.
    """
    there_are = sides(runs)
    there = [s.recipe for s in there_are]
    _check_recipes(recipes, there, name)
    chosen = [s for s in there_are if not recipes or s.recipe in recipes]
    if len(chosen) < 2:
        if len(there) > 1:
            raise InputError(f"{name}: one recipe has nothing beside it; name two of {', '.join(there)}")
        raise InputError(f"{name} holds one recipe ({there[0]}): name a second folder to compare it with")
    return Versus(name, tuple(chosen), True)


def compare_sweeps(first: Sequence[Run], second: Sequence[Run], names: tuple[str, str], recipe: str = "") -> Versus:
    """A quick look against a real sweep, the one that cost fewer FLOPs being the quick look.

    By ``recipe``, or the last that both have, or else each one's last.

    Raises
    ------
    InputError
        When a folder lacks the wanted recipe.
    """
    a, b = ({s.recipe: s for s in sides(runs, name)} for runs, name in zip((first, second), names, strict=True))
    for side, name in ((a, names[0]), (b, names[1])):
        _check_recipes([recipe] if recipe else [], list(side), name)
    common = [x for x in a if x in b]
    pair = (recipe, recipe) if recipe else (common[-1],) * 2 if common else (list(a)[-1], list(b)[-1])
    ordered = sorted((a[pair[0]], b[pair[1]]), key=lambda s: sum(r.counts["flops"] for r in s.runs))
    return Versus(f"{names[0]} against {names[1]}", tuple(ordered), False)


def sides(runs: Sequence[Run], label: str = "") -> list[Side]:
    """One side for each recipe, on the way from V1 to V2, then the others."""
    recipes = {r.config.train.recipe for r in runs}
    order = sorted(recipes, key=lambda r: (ORDER.index(r) if r in ORDER else len(ORDER), r))
    return [Side(f"{label} {x.upper()}".strip(), x, tuple(of_recipe(runs, x))) for x in order]


def _check_recipes(wanted: Sequence[str], there: Sequence[str], name: str) -> None:
    for recipe in wanted:
        if recipe not in there:
            raise InputError(f"{name}: no runs of recipe {recipe!r}; it holds {', '.join(there)}")


def _changes(a: Side, b: Side) -> list[Change]:
    both = pairs(at_shared_length(a.runs), at_shared_length(b.runs), lambda r: r.config.model)
    found = []
    for model in sorted(both, key=lambda m: (m.n_layer * m.d_model**2, m.name)):
        d = both[model][:, 1] - both[model][:, 0]
        (first, last), mean = both[model].mean(axis=0).tolist(), float(d.mean())
        half = half_width(d, LEVEL) if len(d) > 1 else np.nan
        found.append(Change(model.name, a.label, b.label, first, last, mean, len(d), mean - half, mean + half))
    return found


def _judge(name: str, quick: Row, real: Row) -> tuple[bool | None, str]:
    """One exponent of the quick look by that of the real sweep."""
    if quick.value is None:
        said = "neither gives a number" if real.value is None else "the quick look could not tell, and said so"
        return (True if real.value is None else None), f"{name}: {said}"
    warned = "its verdict gave no warning" if quick.note == "supported" else f"its verdict, {quick.note}, warned"
    if real.value is None:
        return None, f"{name}: the larger sweep bears no number out; {warned}"
    if quick.low > real.high or real.low > quick.high:
        side = "above" if quick.low > real.high else "below"
        return False, f"{name}: the interval lies wholly {side} the real one; {warned}"
    if not quick.low <= real.value <= quick.high:
        return None, f"{name}: the intervals meet, but the quick look's leaves the real estimate out"
    if not quick.high <= VAGUE * quick.low:
        return None, f"{name}: the interval holds the real estimate, but is so wide that it excludes little"
    return True, f"{name}: the interval holds the real estimate"


def _beyond(quick: Side, real: Side) -> list[tuple[bool | None, str]]:
    """The quick look's laws at real runs beyond its own, of the same recipe and the same tokens (or model)."""
    found: list[tuple[bool | None, str]] = []
    for variable, ladder in quick.ladders.items():
        first = ladder.runs[0].config
        column = "n_params_non_embedding" if variable == "N" else "n_tokens"
        runs = [
            r for r in real.runs
            if r.finished and r.counts[column] > ladder.x.max() and r.config.model.seq_len == first.model.seq_len
            and (r.config.n_tokens == first.n_tokens if variable == "N" else r.config.model == first.model)
        ]  # fmt: skip
        if ladder.fit is None or quick.recipe != real.recipe or not runs:
            continue
        x, y = np.array([r.counts[column] for r in runs]), np.array([r.val_loss for r in runs], dtype=float)
        what = f"L({variable}) at {len(runs)} larger runs, up to {x.max() / ladder.x.max():.3g} times"
        verdict = ladder.fit.verdict(x)
        if verdict.refused:
            found.append((None, f"{what}: no prediction ({verdict.level})"))
            continue
        error = np.abs(ladder.fit.predict(x) / y - 1)
        low, high = ladder.fit.interval(x, level=LEVEL, kind="new_run")
        held = int(np.sum((low <= y) & (y <= high)))
        text = f"{what}: mean error {100 * error.mean():.1f}%, {held} of {len(y)} inside the {LEVEL:.0%} interval"
        found.append((held >= ENOUGH * len(y), text))
    return found


# ---- two tables ------------------------------------------------------------------


def tables(versus: Versus) -> str:
    """What was trained with the exponents and their verdicts, and the losses where they may be compared."""
    width = max(len(s.label) for s in versus.sides)
    rows = []
    for s in versus.sides:
        n, d = _largest(s)
        spent = duration(sum(r.seconds for r in s.runs))
        rows.append(f"{s.label:<{width}}  {len(s.runs)} runs, up to {short(n)} parameters and {short(d)} tokens, "
                    f"{spent} of training; {s.text}")  # fmt: skip
    lost = [r.run_id for s in versus.sides for r in s.runs if not r.finished]
    rows += [f"Diverged, and in no fit: {', '.join(lost)}"] if lost else []
    names = _names(versus)
    rows += ["", f"{'exponent':<16} {'':<{width}} {'value':>7} {'90% interval':>16}  verdict"] if names else [
        "", "No exponent: fewer than three sizes, or lengths of one size, have finished."
    ]  # fmt: skip
    for name in names:
        for s in versus.sides:
            if name in s.exponents:
                e = s.exponents[name]
                value, between = ("-", "-") if e.value is None else (f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}")
                rows.append(f"{name:<16} {s.label:<{width}} {value:>7} {between:>16}  {e.note}")
    rows += [f"{RIGHT[right]:<6} {text}" for right, text in versus.findings]
    return "\n".join([*rows, "", *_losses(versus)])


def _names(versus: Versus) -> list[str]:
    return list(dict.fromkeys(name for s in versus.sides for name in s.exponents))


def _largest(side: Side) -> tuple[float, float]:
    counts = [r.counts for r in side.runs]
    return max(c["n_params_non_embedding"] for c in counts), max(c["n_tokens"] for c in counts)


def _losses(versus: Versus) -> list[str]:
    if versus.why_not_losses:
        rows = [f"Losses are not compared: {versus.why_not_losses}."]
        return [*rows, "", versus.tokenizers.summary()] if versus.tokenizers else rows
    first, last = versus.sides[0], versus.sides[-1]
    if not versus.of_recipes:
        cells: list[dict[Any, list[Any]]] = [{_cell(r): [] for r in s.runs if r.finished} for s in (first, last)]
        for found, s in zip(cells, (first, last), strict=True):
            for r in s.runs:
                if r.finished:
                    found[_cell(r)].append(r.val_loss)
        common = [c for c in cells[0] if c in cells[1]]
        if not common:
            return ["No loss to compare: the two have no model and length of one recipe in common."]
        rows = [f"{'loss (nats per token)':<22} {first.label:>18} {last.label:>18} {'differ by':>10}"]
        for cell in common:
            a, b = (float(np.mean(found[cell])) for found in cells)
            rows.append(f"{f'{cell[1].name}, {short(cell[2])} tokens':<22} {a:>18.3f} {b:>18.3f} {b / a - 1:>+10.1%}")
        return rows
    if not versus.changes:
        return ["No size was trained by the first recipe and the last with a common seed: no losses to compare."]
    rows = [f"{'loss (nats per token)':<22} {first.label:>12} {last.label:>12}   change, 90% interval"]
    rows += [f"{c.model:<22} {c.loss_before:>12.3f} {c.loss_after:>12.3f}   {c}" for c in versus.changes]
    lengths = [s.ladders["N"].runs[0].counts["n_tokens"] for s in (first, last) if "N" in s.ladders]
    if len(lengths) == 2 and max(lengths) > 1.05 * min(lengths):
        rows.append(
            f"At each size {last.label} trains on {lengths[1] / lengths[0]:.3g} times the tokens of {first.label}."
        )
    if versus.way:
        rows += ["", f"One change at a time, at {versus.way[0].model}, paired by seed"]
        rows += [f"  {c.before} to {c.after}: {c}" for c in versus.way]
    return rows


def _cell(run: Run) -> tuple[str, ModelConfig, int]:
    return run.config.train.recipe, run.config.model, run.config.n_tokens


def to_dict(versus: Versus) -> dict[str, Any]:
    """Return the comparison as plain data."""
    told = [
        {
            "label": s.label, "recipe": s.recipe, "runs": len(s.runs), "text": s.text,
            "seconds": sum(r.seconds for r in s.runs), "largest_n": _largest(s)[0], "largest_d": _largest(s)[1],
            "exponents": {
                name: {"value": e.value, "low": e.low, "high": e.high, "verdict": e.note}
                for name, e in s.exponents.items()
            },
        }
        for s in versus.sides
    ]  # fmt: skip
    return {
        "name": versus.name,
        "of_recipes": versus.of_recipes,
        "sides": told,
        "why_not_losses": versus.why_not_losses or None,
        "tokenizers": asdict(versus.tokenizers) if versus.tokenizers else None,
        "changes": [asdict(c) for c in versus.changes],
        "one_change_at_a_time": [asdict(c) for c in versus.way],
        "findings": [{"right": right, "text": text} for right, text in versus.findings],
    }


# ---- the figure ------------------------------------------------------------------


def plot_versus(versus: Versus, figure: Figure | None = None) -> Figure:
    """Draw the exponents with their intervals beside the ladders; each text has panels of its own."""
    import matplotlib.pyplot as plt

    figure = figure or plt.figure(figsize=(11, 8))
    columns = [versus.sides] if versus.of_recipes else [(s,) for s in versus.sides]
    grid = figure.add_gridspec(2, 1 + len(columns), width_ratios=[1.15, *[1] * len(columns)])
    axes = figure.add_subplot(grid[0 if versus.tokenizers else slice(None), 0])
    rows = [
        s.exponents[name]._replace(label=f"{GREEK[name.split(' of ')[0]]} of {name.split(' of ')[1]}\n{s.label}")
        for name in _names(versus) for s in versus.sides if name in s.exponents
    ]  # fmt: skip
    plot_intervals(rows, axes)
    axes.set_xlabel("exponent, with 90% interval")
    axes.set_title("Exponents")
    if versus.tokenizers:
        plot_tokenizers(versus.tokenizers, figure.add_subplot(grid[1, 0]))
    for column, sides in enumerate(columns, 1):
        for row, variable in enumerate("ND"):
            panel = figure.add_subplot(grid[row, column])
            own = [s.ladders[variable] for s in sides if variable in s.ladders]
            for ladder in own:
                plot_fit(ladder, panel, extrapolate=3.0)
            if own:
                legend_above(panel)
            else:
                say_instead(panel, f"no ladder in {variable}")
            title = "Parameter scaling" if variable == "N" else "Data scaling"
            panel.set_title(title if versus.of_recipes else f"{sides[0].label}\n{sides[0].text}", fontsize="medium")
    return figure

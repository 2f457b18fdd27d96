"""Two sweeps, or the recipes of one, side by side: a table of exponents, a table of losses, and a figure.

Losses are compared within one text and vocabulary only; across texts the exponents are, and across vocabularies of one
text the bits per byte. The sweep that cost fewer FLOPs is the quick look, and the other one judges it.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.changes import LEVEL, Change, by_seed, changes, of_recipe
from scaling_lib.show.grids import find_grids
from scaling_lib.show.ladders import COUNT, Ladder, at_shared_length, find_ladders, place, short, text_of
from scaling_lib.show.panels import plot_ladders
from scaling_lib.show.plot import GREEK, NO_PREDICTION, Row, legend_above, plot_intervals
from scaling_lib.show.tokenizers import Tokenizers, compare_tokenizers, plot_tokenizers
from scaling_lib.words import aligned, duration, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VAGUE = 3.0  # an interval from x to 3x excludes little
ENOUGH = 0.75  # of the losses inside their 90% intervals: of a handful, one may miss
RIGHT = {True: "right", False: "wrong", None: "open"}
SYMBOLS = {"N": "alpha", "D": "beta"}
Finding = tuple[bool | None, str]


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
        laws = [(x.fit, f"L({v})", SYMBOLS[v]) for v, x in self.ladders.items()]
        laws += [(g.fit, "L(N, D)", symbol) for g in find_grids(self.runs) for symbol in SYMBOLS.values()]
        found = {}
        for fit, law, symbol in laws:
            verdict = fit.verdict() if fit else None
            row = Row(self.label, None, note=verdict.level if verdict else "no fit", recipe=self.recipe)
            if fit and verdict and not verdict.refused:
                low, high = fit.parameter_interval(symbol, level=LEVEL)
                row = row._replace(value=fit.params[symbol], low=low, high=high)
            found[f"{symbol} of {law}"] = row
        return found

    @property
    def text(self) -> str:
        """What was read, in words."""
        return f"{text_of(self.runs[0])}, vocabulary {self.runs[0].config.model.vocab_size:,}"

    @property
    def about(self) -> dict[str, Any]:
        """What was trained, as plain data."""
        seconds, largest = (
            sum(r.seconds for r in self.runs),
            {f"largest_{v.lower()}": max(r.counts[key] for r in self.runs) for v, key in COUNT.items()},
        )
        return {"label": self.label, "recipe": self.recipe, "runs": len(self.runs), "text": self.text,
                "seconds": seconds, **largest}  # fmt: skip


class Versus(NamedTuple):
    """A comparison. ``sides`` : the quick look and the real sweep, or (``of_recipes``) the recipes of one folder.

    why_not_losses : why the losses may not be compared, or "" where they may.
    tokenizers : the two in bits per byte, where they read one text under two vocabularies and share shapes.
    changes : from the first recipe to the last, at every model that both have; smallest first.
    way : from each recipe to the next, at the largest model that all have.
    findings : what the quick look got right (True) and wrong (False), or what the two do not settle (None), in words.
    """

    name: str
    sides: tuple[Side, ...]
    of_recipes: bool
    why_not_losses: str
    tokenizers: Tokenizers | None = None
    changes: Sequence[Change] = ()
    way: Sequence[tuple[Side, Side, Change]] = ()
    findings: Sequence[Finding] = ()

    @property
    def exponents(self) -> list[tuple[str, Side, Row]]:
        """Every exponent of every side, by its name."""
        names = dict.fromkeys(name for s in self.sides for name in s.exponents)
        return [(name, s, s.exponents[name]) for name in names for s in self.sides if name in s.exponents]


# ---- what is compared ------------------------------------------------------------


def compare_recipes(runs: Sequence[Run], name: str, recipes: Sequence[str] = ()) -> Versus:
    """The recipes of one folder, first against last; ``recipes`` names those wanted, by default all.

    Raises InputError where fewer than two recipes are there, or a wanted one is not.
    """
    there = _sides(runs, "", name, recipes)
    chosen = [s for s in there.values() if not recipes or s.recipe in recipes]
    if len(there) == 1:
        raise InputError(f"{name} holds one recipe ({', '.join(there)}): name a second folder to compare it with")
    if len(chosen) < 2:
        raise InputError(f"{name}: one recipe has nothing beside it; name two of {', '.join(there)}")
    every = _changes(chosen[0], chosen[-1])
    steps = [(a, b, {c.cell: c for c in _changes(a, b)}) for a, b in pairwise(chosen)]
    common = set.intersection(*(set(found) for *_, found in steps))
    largest = next((c.cell for c in reversed(every) if c.cell in common), None)
    way = [(a, b, found[largest]) for a, b, found in steps if largest is not None]
    return Versus(name, tuple(chosen), True, _why_not(chosen[0], chosen[-1]), None, every, way)


def compare_sweeps(first: Sequence[Run], second: Sequence[Run], names: tuple[str, str], recipe: str = "") -> Versus:
    """A quick look against a real sweep, the one that cost fewer FLOPs being the quick look.

    By ``recipe``, or the last that both have, or else each one's last. Raises InputError where a folder lacks it.
    """
    wanted = [recipe] if recipe else []
    a, b = (_sides(runs, name, name, wanted) for runs, name in zip((first, second), names, strict=True))
    common = wanted or [x for x in a if x in b]
    pair = [there[common[-1] if common else [*there][-1]] for there in (a, b)]
    quick, real = sorted(pair, key=lambda s: sum(r.counts["flops"] for r in s.runs))
    why_not, both = _why_not(quick, real), None
    if why_not.startswith("the vocabularies"):
        with contextlib.suppress(InputError):  # nothing in common: the exponents stand alone
            both = compare_tokenizers(quick.runs, real.runs)
    found = [_judge(n, row, real.exponents[n]) for n, row in quick.exponents.items() if n in real.exponents]
    found += [] if why_not else _beyond(quick, real)
    return Versus(f"{names[0]} against {names[1]}", (quick, real), False, why_not, both, findings=found)


def sides(runs: Sequence[Run], label: str = "") -> list[Side]:
    """One side for each recipe, on the way from V1 to V2, then the others."""
    recipes = sorted({r.config.train.recipe for r in runs}, key=place)
    return [Side(f"{label} {x.upper()}".strip(), x, tuple(of_recipe(runs, x))) for x in recipes]


def _sides(runs: Sequence[Run], label: str, folder: str, wanted: Sequence[str]) -> dict[str, Side]:
    """`sides` by recipe, where all that are wanted are there."""
    there = {s.recipe: s for s in sides(runs, label)}
    for recipe in wanted:
        if recipe not in there:
            raise InputError(f"{folder}: no runs of recipe {recipe!r}; it holds {', '.join(there)}")
    return there


def _why_not(a: Side, b: Side) -> str:
    """Why losses of the two may not be compared, or "" where they may."""
    first, last = a.runs[0], b.runs[0]
    if first.corpus["fingerprint"] != last.corpus["fingerprint"]:
        names = (f"{text_of(r)} {str(r.corpus['fingerprint'])[:8]}" for r in (first, last))
        return f"the texts differ ({', '.join(names)})"
    sizes = [r.config.model.vocab_size for r in (first, last)]
    return "" if sizes[0] == sizes[1] else f"the vocabularies differ ({sizes[0]:,} and {sizes[1]:,})"


def _changes(a: Side, b: Side) -> list[Change]:
    found = changes(at_shared_length(a.runs), at_shared_length(b.runs), lambda r: r.config.model)
    return sorted(found, key=lambda c: (c.cell.n_layer * c.cell.d_model**2, c.cell.name))


def _judge(name: str, quick: Row, real: Row) -> Finding:
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


def _beyond(quick: Side, real: Side) -> list[Finding]:
    """The quick look's laws at real runs beyond its own, of the same recipe and the same tokens (or model)."""
    found: list[Finding] = []
    for variable, ladder in quick.ladders.items() if quick.recipe == real.recipe else ():
        first = ladder.runs[0].config
        alike = [r for r in real.runs if r.finished and r.config.model.seq_len == first.model.seq_len]
        if variable == "N":
            alike = [r for r in alike if r.config.n_tokens == first.n_tokens]
        else:
            alike = [r for r in alike if r.config.model == first.model]
        runs = [r for r in alike if r.counts[COUNT[variable]] > ladder.x.max()]
        if ladder.fit is None or not runs:
            continue
        x, y = np.array([r.counts[COUNT[variable]] for r in runs]), np.array([r.val_loss for r in runs], dtype=float)
        what = f"L({variable}) at {len(runs)} larger runs, up to {x.max() / ladder.x.max():.3g} times"
        verdict = ladder.fit.verdict(x)
        if verdict.refused:
            found.append((None, f"{what}: no prediction ({verdict.level})"))
            continue
        low, high = ladder.fit.interval(x, level=LEVEL, kind="new_run")
        held, error = int(np.sum((low <= y) & (y <= high))), 100 * np.abs(ladder.fit.predict(x) / y - 1).mean()
        text = f"{what}: mean error {error:.1f}%, {held} of {len(y)} inside the {LEVEL:.0%} interval"
        found.append((held >= ENOUGH * len(y), text))
    return found


# ---- two tables ------------------------------------------------------------------


def tables(versus: Versus) -> str:
    """What was trained with the exponents and their verdicts, and the losses where they may be compared."""
    lines = [
        "{label}: {runs} runs, up to {n} parameters and {d} tokens, {took} of training; {text}".format(
            **a, n=short(a["largest_n"]), d=short(a["largest_d"]), took=duration(a["seconds"])
        )
        for a in (s.about for s in versus.sides)
    ]
    lost = [r.run_id for s in versus.sides for r in s.runs if not r.finished]
    lines += [f"Diverged, and in no fit: {', '.join(lost)}"] if lost else []
    rows = [
        {"what": name, "side": s.label, "verdict": e.note, "value": "-" if e.value is None else f"{e.value:.3f}",
         "ends": "-" if e.value is None else f"{e.low:.3f} to {e.high:.3f}"}
        for name, s, e in versus.exponents
    ]  # fmt: skip
    columns = {"exponent": "{what}", "of": "{side}", "value": "{value}", "90% interval": "{ends}",
               "verdict": "{verdict}"}  # fmt: skip
    none = "No exponent: fewer than three sizes, or lengths of one size, have finished."
    exponents = table(rows, columns, 2) if rows else none
    found = "\n".join(f"{RIGHT[right]:<6} {text}" for right, text in versus.findings)
    return "\n\n".join(part for part in ("\n".join(lines), exponents, found, *_losses(versus)) if part)


def _losses(versus: Versus) -> Iterator[str]:
    first, last = versus.sides[0], versus.sides[-1]
    heading = ("loss (nats per token)", first.label, last.label)
    if versus.why_not_losses:
        yield f"Losses are not compared: {versus.why_not_losses}."
        if versus.tokenizers:
            yield versus.tokenizers.summary()
    elif not versus.of_recipes:
        cells = [
            by_seed(s.runs, lambda r: (r.config.train.recipe, r.config.model, r.config.n_tokens)) for s in versus.sides
        ]
        rows = []
        for cell in (c for c in cells[0] if c in cells[1]):
            a, b = (float(np.mean([*own[cell].values()])) for own in cells)
            rows.append((f"{cell[1].name}, {short(cell[2])} tokens", f"{a:.3f}", f"{b:.3f}", f"{b / a - 1:+.1%}"))
        none = "No loss to compare: the two have no model and length of one recipe in common."
        yield aligned([(*heading, "differ by"), *rows]) if rows else none
    elif not versus.changes:
        yield "No size was trained by the first recipe and the last with a common seed: no losses to compare."
    else:
        rows = [(c.cell.name, f"{c.before:.3f}", f"{c.after:.3f}", _told(c)) for c in versus.changes]
        text = aligned([(*heading, "change, 90% interval"), *rows])
        lengths = [s.ladders["N"].runs[0].counts["n_tokens"] for s in (first, last) if "N" in s.ladders]
        if len(lengths) == 2 and max(lengths) > 1.05 * min(lengths):
            times = lengths[1] / lengths[0]
            text += f"\nAt each size {last.label} trains on {times:.3g} times the tokens of {first.label}."
        yield text
        if len(versus.way) > 1:
            steps = (f"\n  {a.label} to {b.label}: {_told(c)}" for a, b, c in versus.way)
            yield f"One change at a time, at {versus.way[0][2].cell.name}, paired by seed{''.join(steps)}"


def _told(c: Change) -> str:
    if np.isnan(c.low):
        return f"{c.change:+.3f} nats (one seed, so without an interval)"
    return f"{c.change:+.3f} [{c.low:+.3f}, {c.high:+.3f}] nats"


def to_dict(versus: Versus) -> dict[str, Any]:
    """Return the comparison as plain data."""

    def plain(a: Side, b: Side, c: Change) -> dict[str, Any]:
        told = {"model": c.cell.name, "before": a.label, "after": b.label, "loss_before": c.before}
        return told | {"loss_after": c.after} | {k: getattr(c, k) for k in ("change", "seeds", "low", "high")}

    def exponents(s: Side) -> dict[str, Any]:
        return {k: {"value": e.value, "low": e.low, "high": e.high, "verdict": e.note} for k, e in s.exponents.items()}

    return {
        "name": versus.name,
        "of_recipes": versus.of_recipes,
        "sides": [s.about | {"exponents": exponents(s)} for s in versus.sides],
        "why_not_losses": versus.why_not_losses or None,
        "tokenizers": asdict(versus.tokenizers) if versus.tokenizers else None,
        "changes": [plain(versus.sides[0], versus.sides[-1], c) for c in versus.changes],
        "one_change_at_a_time": [plain(*step) for step in versus.way if len(versus.way) > 1],
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
    letters = {name: GREEK[name.split()[0]] + name[name.index(" ") :] for name, *_ in versus.exponents}
    rows = []
    for name, s, e in versus.exponents:
        note = f"{NO_PREDICTION}: {e.note}" if e.value is None else e.note
        rows.append(e._replace(label=f"{letters[name]}\n{s.label}", note=note))
    plot_intervals(rows, axes)
    axes.set_xlabel("exponent, with 90% interval")
    axes.set_title("Exponents")
    if versus.tokenizers:
        plot_tokenizers(versus.tokenizers, figure.add_subplot(grid[1, 0]))
    for column, own in enumerate(columns, 1):
        text = "\n".join([own[0].label, *textwrap.wrap(own[0].text, 32)])  # no wider than the panel
        for row, (variable, title) in enumerate((("N", "Parameter scaling"), ("D", "Data scaling"))):
            panel = figure.add_subplot(grid[row, column])
            panel.set_title(title if versus.of_recipes else text, fontsize="medium")
            ladders = [s.ladders[variable] for s in own if variable in s.ladders]
            plot_ladders(ladders, variable, panel, 3.0)
            if ladders and versus.of_recipes:
                legend_above(panel)
    return figure

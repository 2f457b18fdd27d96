"""Two sweeps, or the recipes of one, side by side: what may be compared, and what a quick look got right and wrong.

Losses are compared within one text and vocabulary only; across texts the exponents are, and across vocabularies of one
text the bits per byte. ``versus_report`` puts a comparison into tables, a paragraph and a figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run
from scaling_lib.show.grids import Grid, find_grids
from scaling_lib.show.ladders import ORDER, Ladder, find_ladders, short
from scaling_lib.show.noise import half_width
from scaling_lib.show.tokenizers import Tokenizers, compare_tokenizers

LEVEL = 0.9
VAGUE = 3.0  # an interval from x to 3x excludes little
ALIKE = 0.02  # of the loss: a few times the seed noise of small models (results/seed-noise)
ENOUGH = 0.75  # of the losses inside their 90% intervals: of a handful, one may miss
GPT3 = 174.6e9  # parameters, Brown et al. 2020, table D.1: what a first law is asked about


@dataclass(frozen=True)
class Exponent:
    """One exponent and its 90% interval; ``value`` is None where the verdict refuses a number."""

    verdict: str
    value: float | None = None
    low: float = float("nan")
    high: float = float("nan")

    @property
    def vague(self) -> bool:
        return not self.high <= VAGUE * self.low

    def __str__(self) -> str:
        if self.value is None:
            return self.verdict
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] ({self.verdict})"


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
    def grid(self) -> Grid | None:
        """The grid that the runs form, if they do."""
        return next(iter(find_grids(self.runs)), None)

    @cached_property
    def exponents(self) -> dict[str, Exponent]:
        """By a name such as "alpha of L(N)": those for which there are runs."""
        found = {}
        for variable, symbol in (("N", "alpha"), ("D", "beta")):
            if variable in self.ladders:
                found[f"{symbol} of L({variable})"] = _exponent(self.ladders[variable].fit, symbol)
        if self.grid is not None:
            found |= {f"{symbol} of L(N, D)": _exponent(self.grid.fit, symbol) for symbol in ("alpha", "beta")}
        return found

    @property
    def text(self) -> str:
        """What its losses are of, in words."""
        return f"{self.runs[0].corpus['name']}, vocabulary {self.runs[0].config.model.vocab_size:,}"

    @property
    def seconds(self) -> float:
        """Training time of all runs added up."""
        return sum(r.seconds for r in self.runs)

    @property
    def largest(self) -> tuple[float, float]:
        """The largest number of non-embedding parameters, and of tokens."""
        counts = [r.counts for r in self.runs]
        return max(c["n_params_non_embedding"] for c in counts), max(c["n_tokens"] for c in counts)

    def losses(self, model: ModelConfig) -> dict[int, float]:
        """Final losses at a model by seed, at the length that most of the models share (the longest of equals)."""
        shared: dict[int, set[ModelConfig]] = {}
        for r in self.runs:
            if r.finished:
                shared.setdefault(r.config.train.max_steps, set()).add(r.config.model)
        steps = max(shared, key=lambda s: (len(shared[s]), s), default=0)
        own = [r for r in self.runs if r.config.model == model and r.config.train.max_steps == steps]
        return {r.config.train.seed: r.val_loss for r in own if r.val_loss is not None and r.finished}


def _exponent(fit: FitResult | None, symbol: str) -> Exponent:
    if fit is None:
        return Exponent("no fit")
    verdict = fit.verdict()
    if verdict.refused:
        return Exponent(verdict.level)
    low, high = fit.parameter_interval(symbol, level=LEVEL)
    return Exponent(verdict.level, fit.params[symbol], low, high)


@dataclass(frozen=True)
class Change:
    """Loss of one recipe less that of another at one model, paired by seed: nats per token, 90% interval.

    low, high : None with fewer than two common seeds.
    """

    model: str
    before: str
    after: str
    loss_before: float
    loss_after: float
    seeds: int
    low: float | None = None
    high: float | None = None

    @property
    def change(self) -> float:
        return self.loss_after - self.loss_before

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.change:+.3f} nats (one seed, so without an interval)"
        return f"{self.change:+.3f} [{self.low:+.3f}, {self.high:+.3f}] nats"


@dataclass(frozen=True)
class Finding:
    """What the quick look said beside what the real sweep found. right : None where the two do not settle it."""

    right: bool | None
    text: str


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
            return (
                f"the texts differ ({first.corpus['name']} {str(first.corpus['fingerprint'])[:8]}, "
                f"{last.corpus['name']} {str(last.corpus['fingerprint'])[:8]})"
            )
        if first.config.model.vocab_size != last.config.model.vocab_size:
            return (
                f"the vocabularies differ ({self.sides[0].text.split(', ')[1]}, {self.sides[-1].text.split(', ')[1]})"
            )
        return ""

    @cached_property
    def tokenizers(self) -> Tokenizers | None:
        """The two in bits per byte, where they read one text under two vocabularies and trained shapes in common."""
        first, last = self.sides[0].runs, self.sides[-1].runs
        if (
            self.of_recipes
            or first[0].corpus["fingerprint"] != last[0].corpus["fingerprint"]
            or not self.why_not_losses
        ):
            return None
        try:
            return compare_tokenizers(first, last)
        except InputError:
            return None  # nothing in common: the exponents stand alone

    @cached_property
    def changes(self) -> list[Change]:
        """From the first recipe to the last, at every model that both have; smallest first."""
        return _changes(self.sides[0], self.sides[-1]) if self.of_recipes else []

    @cached_property
    def way(self) -> list[Change]:
        """From each recipe to the next, at the largest model that all have."""
        if not self.of_recipes or len(self.sides) < 3 or not self.changes:
            return []
        steps = [_changes(a, b) for a, b in zip(self.sides, self.sides[1:], strict=False)]
        common = set.intersection(*({c.model for c in found} for found in steps))
        largest = next((c.model for c in reversed(self.changes) if c.model in common), None)
        return [c for found in steps for c in found if c.model == largest]

    @cached_property
    def findings(self) -> list[Finding]:
        """What the quick look got right and wrong, measured by the real sweep."""
        if self.of_recipes:
            return []
        quick, real = self.sides
        found = [
            _judge(name, quick.exponents[name], real.exponents[name])
            for name in quick.exponents
            if name in real.exponents
        ]
        found += _far(quick, real)
        return found if self.why_not_losses else [*found, *_same_cells(quick, real), *_beyond(quick, real)]


def _changes(a: Side, b: Side) -> list[Change]:
    models = sorted({r.config.model for r in a.runs}, key=lambda m: (m.n_layer * m.d_model**2, m.name))
    found = []
    for model in models:
        before, after = a.losses(model), b.losses(model)
        seeds = sorted(set(before) & set(after))
        if not seeds:
            continue
        d = np.array([after[s] - before[s] for s in seeds])
        first, last = (float(np.mean([x[s] for s in seeds])) for x in (before, after))
        change = Change(model.name, a.label, b.label, first, last, len(d))
        if len(d) > 1:
            half = half_width(d, LEVEL)
            change = replace(change, low=change.change - half, high=change.change + half)
        found.append(change)
    return found


def _judge(name: str, quick: Exponent, real: Exponent) -> Finding:
    """One exponent of the quick look by that of the real sweep."""
    both = f"{name}: {quick} against {real}"
    if quick.value is None and real.value is None:
        return Finding(True, f"{both}: neither gives a number")
    if quick.value is None:
        return Finding(None, f"{both}: the quick look could not tell, and said so")
    warned = "its verdict gave no warning" if quick.verdict == "supported" else f"its verdict, {quick.verdict}, warned"
    if real.value is None:
        return Finding(None, f"{both}: the larger sweep bears no number out; {warned}")
    if quick.low > real.high or real.low > quick.high:
        side = "above" if quick.low > real.high else "below"
        return Finding(False, f"{both}: the interval lies wholly {side} the real one; {warned}")
    if not quick.low <= real.value <= quick.high:
        return Finding(None, f"{both}: the intervals meet, but the quick look's leaves the real estimate out")
    if quick.vague:
        return Finding(None, f"{both}: the interval holds the real estimate, but is so wide that it excludes little")
    return Finding(True, f"{both}: the interval holds the real estimate")


def _far(quick: Side, real: Side) -> list[Finding]:
    """Whether each would speak about GPT-3."""
    fits = [s.ladders["N"].fit for s in (quick, real) if "N" in s.ladders]
    if len(fits) < 2 or None in fits:
        return []
    first, second = (fit is not None and fit.verdict(GPT3).refused for fit in fits)
    what = f"a loss at {short(GPT3)} parameters"
    if first and second:
        return [Finding(True, f"{what}: the quick look refuses it, and so does the real sweep")]
    if second:
        return [Finding(False, f"{what}: the quick look gives one, the real sweep refuses")]
    return [Finding(None, f"{what}: the real sweep gives one" + (", the quick look refuses" if first else ""))]


def _cells(side: Side) -> dict[tuple[ModelConfig, int, str], list[float]]:
    found: dict[tuple[ModelConfig, int, str], list[float]] = {}
    for r in side.runs:
        if r.finished and r.val_loss is not None:
            found.setdefault((r.config.model, r.config.n_tokens, r.config.train.recipe), []).append(r.val_loss)
    return found


def _same_cells(quick: Side, real: Side) -> list[Finding]:
    """Losses of equal model, tokens and recipe: do they repeat?"""
    a, b = _cells(quick), _cells(real)
    gaps = [abs(np.mean(a[cell]) / np.mean(b[cell]) - 1) for cell in a if cell in b]
    if not gaps:
        return []
    text = f"losses of the {len(gaps)} cells that both have: they differ by up to {100 * max(gaps):.1f}%"
    return [Finding(bool(max(gaps) <= ALIKE), text)]


def _beyond(quick: Side, real: Side) -> list[Finding]:
    """The quick look's laws at real runs beyond its own, of the same recipe and the same tokens (or model)."""
    found = []
    for variable, ladder in quick.ladders.items():
        first = ladder.runs[0].config
        if ladder.fit is None or quick.recipe != real.recipe:
            continue
        column = "n_params_non_embedding" if variable == "N" else "n_tokens"
        runs = [
            r
            for r in real.runs
            if r.finished
            and r.val_loss is not None
            and r.counts[column] > ladder.x.max()
            and (r.config.n_tokens == first.n_tokens if variable == "N" else r.config.model == first.model)
        ]
        if not runs:
            continue
        x, y = np.array([r.counts[column] for r in runs]), np.array([r.val_loss for r in runs], dtype=float)
        verdict = ladder.fit.verdict(x)
        what = f"L({variable}) at {len(runs)} larger runs, up to {x.max() / ladder.x.max():.3g} times"
        if verdict.refused:
            found.append(Finding(None, f"{what}: it refuses to predict them ({verdict.level})"))
            continue
        error = np.abs(ladder.fit.predict(x) / y - 1)
        low, high = ladder.fit.interval(x, level=LEVEL, kind="new_run")
        held = int(np.sum((low <= y) & (y <= high)))
        text = f"{what}: mean error {100 * error.mean():.1f}%, {held} of {len(y)} inside the {LEVEL:.0%} interval"
        found.append(Finding(held >= ENOUGH * len(y), text))
    return found


# ---- who stands beside whom ------------------------------------------------------


def _sides(runs: Sequence[Run], label: str) -> list[Side]:
    """One side for each recipe, on the way from V1 to V2, then the others."""
    recipes = {r.config.train.recipe for r in runs}
    order = sorted(recipes, key=lambda r: (ORDER.index(r) if r in ORDER else len(ORDER), r))
    return [
        Side(f"{label} {x.upper()}".strip(), x, tuple(r for r in runs if r.config.train.recipe == x)) for x in order
    ]


def compare_recipes(runs: Sequence[Run], name: str, recipes: Sequence[str] = ()) -> Versus:
    """The recipes of one folder, first against last; ``recipes`` names those wanted, by default all.

    Raises
    ------
    InputError
        When fewer than two recipes are there, or a wanted one is not.
    """
    sides = _sides(runs, "")
    there = [s.recipe for s in sides]
    _check_recipes(recipes, there, name)
    chosen = [s for s in sides if not recipes or s.recipe in recipes]
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
    a, b = ({s.recipe: s for s in _sides(runs, name)} for runs, name in zip((first, second), names, strict=True))
    for side, name in ((a, names[0]), (b, names[1])):
        _check_recipes([recipe] if recipe else [], list(side), name)
    common = [x for x in a if x in b]
    pair = (recipe, recipe) if recipe else (common[-1],) * 2 if common else (list(a)[-1], list(b)[-1])
    sides = sorted((a[pair[0]], b[pair[1]]), key=lambda s: sum(r.counts["flops"] for r in s.runs))
    return Versus(f"{names[0]} against {names[1]}", tuple(sides), False)


def _check_recipes(wanted: Sequence[str], there: Sequence[str], name: str) -> None:
    for recipe in wanted:
        if recipe not in there:
            raise InputError(f"{name}: no runs of recipe {recipe!r}; it holds {', '.join(there)}")

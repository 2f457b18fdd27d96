"""A ladder in D looked at closely: how each doubling pays, runs cut short of their schedule, trunks, repeated data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.fit.seeds import half_width
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import look_of, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scaling_lib.fit.published import PublishedLaw


@dataclass(frozen=True)
class Gap:
    """What a point on the way of a longer run has over the end of a run of that length; nats, on the same text.

    step : where both are compared. planned : the steps that the longer run's schedule was made for.
    gaps : float (n_seeds,), one for each seed that both have, in the order of the seeds.
    """

    model: ModelConfig
    step: int
    planned: int
    gaps: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.gaps.mean())

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Student's t over the paired gaps; without end for one seed, which shows no noise."""
        n = len(self.gaps)
        if n < 2:
            return -math.inf, math.inf
        half = half_width(self.gaps, level)
        return self.mean - half, self.mean + half


def measured_curve(run: Run, least_step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Steps and validation losses (nats per token) that were measured on the way and at the end, each (n,).

    All points of a sweep are measured on the same few windows of text, fewer than the final ``val_loss``: they
    compare with each other, and not with it.
    """
    points = [(p.step, p.val_loss) for p in run.history if p.val_loss is not None and p.step >= least_step]
    steps, losses = np.array(points, dtype=float).reshape(-1, 2).T
    return steps.astype(int), losses


def curve_value(run: Run, step: int) -> float:
    """Validation loss at ``step``: between two measured points by a straight line in ln(step).

    Raises
    ------
    InputError
        When the step lies before the first measured point or after the end.
    """
    steps, losses = measured_curve(run)
    if not len(steps) or not steps[0] <= step <= steps[-1]:
        have = f"from {steps[0]} to {steps[-1]}" if len(steps) else "nowhere"
        raise InputError(f"run {run.run_id}: no validation loss at step {step}; it was measured {have}")
    return float(np.interp(math.log(step), np.log(steps), losses))


def schedule_gaps(runs: Sequence[Run], recipe: str) -> list[Gap]:
    """Compare the ends of short runs with the points that longer runs pass at the same step, seed by seed.

    Positive: the point on the way is higher, so that a law fitted to it would promise too little. For every
    model, every length and every greater length that share a seed; by model, length, planned length.

    Raises
    ------
    InputError
        When the runs read different texts, or no model has two lengths with a common seed.
    """
    check_poolable(runs)
    own = {(r.config.model, r.config.train.max_steps, r.config.train.seed): r for r in _of(runs, recipe)}
    models = sorted({m for m, _, _ in own}, key=lambda m: (m.n_layer * m.d_model**2, m.name))
    found = []
    for model in models:
        lengths = sorted({steps for m, steps, _ in own if m == model})
        for i, step in enumerate(lengths):
            for planned in lengths[i + 1 :]:
                seeds = [s for m, n, s in own if (m, n) == (model, step) and (model, planned, s) in own]
                if seeds:
                    gaps = [
                        curve_value(own[model, planned, s], step) - measured_curve(own[model, step, s])[1][-1]
                        for s in sorted(seeds)
                    ]
                    found.append(Gap(model, step, planned, np.array(gaps)))
    if not found:
        raise InputError(f"no model has runs of recipe {recipe!r} at two lengths with a common seed")
    return found


@dataclass(frozen=True)
class SeedCorrelation:
    """Whether a seed that is lucky at one length is lucky at another: deviations from the mean over the seeds.

    first, second : float (n,), relative deviations of the shorter and of the longer runs, model after model.
    r : their correlation within models; low, high : its 90% interval (Fisher's z, a degree of freedom less for
    each model's mean).
    """

    recipe: str
    first: np.ndarray
    second: np.ndarray
    r: float
    low: float
    high: float


def seed_correlation(runs: Sequence[Run], recipe: str, level: float = 0.9) -> SeedCorrelation:
    """Correlate the final losses of the shortest and the longest runs over their seeds, within each model.

    Raises
    ------
    InputError
        When fewer than three degrees of freedom are left: seeds less one, added up over the models.
    """
    check_poolable(runs)
    own = {(r.config.model, r.config.n_tokens, r.config.train.seed): r.val_loss for r in _of(runs, recipe)}
    parts, dof = [], 0
    for model in dict.fromkeys(m for m, _, _ in own):
        lengths = sorted({d for m, d, _ in own if m == model})
        seeds = [s for m, d, s in own if (m, d) == (model, lengths[0]) and (model, lengths[-1], s) in own]
        if len(lengths) < 2 or len(seeds) < 2:
            continue
        pair = np.array([[own[model, d, s] for s in seeds] for d in (lengths[0], lengths[-1])], dtype=float)
        parts.append(pair / pair.mean(axis=1, keepdims=True) - 1.0)
        dof += len(seeds) - 1
    if dof < 3:
        raise InputError(f"recipe {recipe!r} has {dof} spare seeds at two lengths of one model; 3 are needed")
    first, second = np.concatenate(parts, axis=1)
    r = float(first @ second / math.sqrt((first @ first) * (second @ second)))
    half = float(special.ndtri(0.5 + level / 2)) / math.sqrt(dof - 2)
    z = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    return SeedCorrelation(recipe, first, second, r, math.tanh(z - half), math.tanh(z + half))


def doublings(runs: Sequence[Run], recipe: str) -> dict[ModelConfig, tuple[np.ndarray, np.ndarray]]:
    """By model, smallest first: the token counts (n,), and the fall of the loss from each to the next (n - 1,), nats.

    A law E + B / D^beta makes every fall 2^beta times smaller than the one before, whatever E, B and beta.
    """
    check_poolable(runs)
    cells: dict[ModelConfig, dict[int, list[float]]] = {}
    for r in sorted(_of(runs, recipe), key=lambda r: r.counts["n_params_non_embedding"]):
        cells.setdefault(r.config.model, {}).setdefault(r.config.n_tokens, []).append(float(r.val_loss or math.nan))
    found = {}
    for model, by_length in cells.items():
        tokens = np.array(sorted(by_length))
        found[model] = (tokens, -np.diff([np.mean(by_length[d]) for d in tokens.tolist()]))
    return found


def worth_of_epochs(epochs: ArrayLike, r_d: float) -> np.ndarray:
    """Fresh data that ``epochs`` passes over some text are worth, as a multiple of that text.

    D' / U = 1 + R_D (1 - exp(-(epochs - 1) / R_D)) [Muennighoff et al. 2023, equation 5]; never more than
    1 + R_D. Less than one epoch is worth itself.
    """
    e = np.asarray(epochs, dtype=float)
    return np.where(e <= 1, e, 1.0 - r_d * np.expm1(-(np.maximum(e, 1.0) - 1.0) / r_d))


def _of(runs: Sequence[Run], recipe: str) -> list[Run]:
    own = [r for r in runs if r.config.train.recipe == recipe and r.finished]
    if not own:
        raise InputError(f"no finished runs of recipe {recipe!r} among the records")
    return own


# ---- figures -------------------------------------------------------------------


def plot_doublings(falls: Mapping[ModelConfig, tuple[np.ndarray, np.ndarray]], axes: Axes | None = None) -> Axes:
    """Draw what each doubling of the data brought, a line for each size; a power law would be a straight line down.

    The axis is logarithmic: a doubling after which the loss rose is left out.
    """
    from scaling_lib.show.plot import count_axis, shades

    axes = axes or new_axes()
    for (model, (tokens, fall)), colour in zip(falls.items(), shades(len(falls)), strict=True):
        axes.plot(tokens[1:], fall, "o-", color=colour, linewidth=1.4, markersize=5, label=model.name)
    count_axis(axes)
    ends = sorted({float(d) for tokens, _ in falls.values() for d in tokens[1:]})
    axes.set_xticks(ends, [_about(d) for d in ends])
    axes.set_yscale("log")
    axes.set_xlabel("training tokens D at the end of the doubling")
    axes.set_ylabel("fall of the loss in that doubling (nats)")
    _plain_ticks(axes, (0.1, 0.2, 0.3, 0.4, 0.5))
    axes.legend(title="layers x width", fontsize="small")
    return axes


def plot_curves_and_ends(
    runs: Sequence[Run], recipe: str, model: ModelConfig, axes: Axes | None = None, *, least_step: int = 40
) -> Axes:
    """Draw the validation curves of one model's runs of several lengths, and where each ended; means over the seeds."""
    from scaling_lib.show.plot import count_axis, shades

    axes = axes or new_axes()
    by_length: dict[int, list[Run]] = {}
    for r in _of([r for r in runs if r.config.model == model], recipe):
        by_length.setdefault(r.config.train.max_steps, []).append(r)
    ends = []
    for steps, colour in zip(sorted(by_length), shades(len(by_length)), strict=True):
        own = by_length[steps]
        at = measured_curve(own[0], least_step)[0] * own[0].config.train.batch_size * model.seq_len
        loss = np.mean([measured_curve(r, least_step)[1] for r in own], axis=0)
        axes.plot(at, loss, ".-", color=colour, linewidth=1.3, label=f"made for {_about(at[-1])} tokens")
        ends.append((at[-1], loss[-1]))
    axes.plot(*zip(*ends, strict=True), "*--", color="#D55E00", markersize=13, linewidth=1.3, label="ends")
    count_axis(axes)
    axes.set_xlabel("training tokens seen")
    axes.set_ylabel("validation loss (nats per token)")
    axes.legend(fontsize="small")
    return axes


def plot_trunk(runs: Sequence[Run], model: ModelConfig, axes: Axes | None = None) -> Axes:
    """Draw the learning rates of one model's ``wsd`` runs: one trunk, and a decay that branches off for each length."""
    from scaling_lib.show.plot import shades

    axes = axes or new_axes()
    own = sorted(_of([r for r in runs if r.config.model == model], "wsd"), key=lambda r: -r.config.n_tokens)
    for run, colour in zip(own, shades(len(own))[::-1], strict=True):
        train = run.config.train
        corners = np.array([0, train.warmup_steps, train.decay_start, train.max_steps])
        tokens = corners * train.batch_size * model.seq_len / 1e6
        first = 0 if run is own[0] else 2  # the longest run's line stands for the trunk of all
        axes.plot(tokens[first:], [0.0, train.lr, train.lr, 0.0][first:], color=colour, linewidth=2.2)
        axes.annotate(_about(run.config.n_tokens), (tokens[-1], 0), (0, -3), textcoords="offset points", ha="center",
                      va="top", fontsize="small", color=colour)  # fmt: skip
    axes.set_ylim(bottom=-0.09 * own[0].config.train.lr)
    axes.set_xlabel("training tokens seen (millions)")
    axes.set_ylabel("learning rate")
    return axes


def plot_seed_correlation(found: Sequence[SeedCorrelation], axes: Axes | None = None) -> Axes:
    """Draw each seed's deviation at the longer length against that at the shorter one, in percent of the loss."""
    axes = axes or new_axes()
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.axvline(0, color="#888888", linewidth=0.8)
    for c in found:
        colour, marker = look_of(c.recipe)
        label = f"{c.recipe.upper()}: r = {c.r:.2f} [{c.low:.2f}, {c.high:.2f}]"
        axes.plot(100 * c.first, 100 * c.second, marker, color=colour, label=label)
    axes.set_xlabel("deviation from the seeds' mean, shorter runs (%)")
    axes.set_ylabel("the same seed, longer runs (%)")
    axes.legend()
    return axes


def plot_worth(law: PublishedLaw, axes: Axes | None = None, *, most: float = 100.0) -> Axes:
    """Draw what repeated data are worth against the epochs, by a published data-constrained law."""
    axes = axes or new_axes()
    epochs = np.geomspace(1, most, 100)
    r_d = law.params["R_D"]
    axes.plot(epochs, epochs, color="#888888", linestyle=":", label="if every epoch were fresh data")
    axes.plot(epochs, worth_of_epochs(epochs, r_d), color="#0072B2", label=law.title)
    axes.axhline(1 + r_d, color="#D55E00", linestyle="--", linewidth=1.2, label=f"never more than {1 + r_d:.1f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [t for t in (1, 2, 4, 8, 16, 32, 64) if t <= most]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    _plain_ticks(axes, ticks)
    axes.set_xlabel("epochs: passes over the same text")
    axes.set_ylabel("worth in fresh data (times the text)")
    axes.legend()
    return axes


def _about(tokens: float) -> str:
    """Two digits are enough to name a length: 1M for 999,424 tokens, a whole number of steps."""
    return short(float(f"{tokens:.2g}"))


def _plain_ticks(axes: Axes, ticks: Sequence[float]) -> None:
    axes.minorticks_off()
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])

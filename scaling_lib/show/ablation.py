"""From one recipe to another, one change at a time: what each change did to the loss, beside its noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.ladders import at_shared_length
from scaling_lib.show.noise import half_width, of_recipe
from scaling_lib.show.plot import FAINT, GREY, LOSS, look, look_of, new_axes, plot_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Step:
    """One recipe on the way, measured over seeds at one model size.

    losses : float (n_seeds,), nats per token, in the order of the seeds.
    change : mean over the seeds of loss minus loss of the recipe before, same seed; None for the first.
    low, high : its interval by Student's t over the paired differences. The validation text and, by seed, the
        initial weights and the order of the data are the same, so most of the noise cancels.
    """

    recipe: str
    losses: np.ndarray
    change: float | None = None
    low: float | None = None
    high: float | None = None


def ablation_steps(
    runs: Sequence[Run],
    recipes: Sequence[str],
    model: ModelConfig,
    *,
    max_steps: int | None = None,
    level: float = 0.9,
) -> list[Step]:
    """Measure each recipe against the one before it.

    Parameters
    ----------
    runs : records that include every recipe at ``model`` with the same two or more seeds.
    max_steps : the length that counts; where None, for each recipe the one that most of its models share.
    recipes : in the order of the way, such as ``("v1", "v1-long", "v2")``.

    Raises
    ------
    InputError
        When a recipe is missing, or has other seeds than the first.
    """
    check_poolable(runs)
    found: list[Step] = []
    seeds: list[int] = []
    for recipe in recipes:
        by_seed = _by_seed(runs, recipe, model, max_steps)
        if not found:
            seeds = sorted(by_seed)
        if len(seeds) < 2 or sorted(by_seed) != seeds:
            raise InputError(
                f"recipe {recipe!r} at {model.name} has seeds {sorted(by_seed)}; give all the same two or more"
            )
        losses = np.array([by_seed[s] for s in seeds])
        if not found:
            found.append(Step(recipe, losses))
            continue
        difference = losses - found[-1].losses
        half = half_width(difference, level)
        change = float(difference.mean())
        found.append(Step(recipe, losses, change, change - half, change + half))
    return found


def _by_seed(runs: Sequence[Run], recipe: str, model: ModelConfig, max_steps: int | None) -> dict[int, float]:
    own = [r for r in of_recipe(runs, recipe) if r.finished]
    if not own:
        raise InputError(f"no finished runs of recipe {recipe!r} among the records")
    chosen = [r for r in own if r.config.train.max_steps == max_steps] if max_steps else at_shared_length(own)
    return {r.config.train.seed: r.val_loss for r in chosen if r.config.model == model and r.val_loss is not None}


def plot_steps(way: Sequence[Step], labels: Sequence[str], axes: Axes | None = None) -> Axes:
    """Draw the losses of each recipe, a dot a seed, and the change from one to the next with its 90% interval."""
    axes = axes or new_axes()
    colour = look(0)[0]
    for place, step in enumerate(way):
        axes.plot([place] * len(step.losses), step.losses, "o", color=colour, alpha=0.7)
        axes.plot([place - 0.18, place + 0.18], [step.losses.mean()] * 2, color=colour)
        if step.change is not None and step.low is not None and step.high is not None:
            text = f"{step.change:+.2f}\n[{step.low:+.2f}, {step.high:+.2f}]"
            above = max(step.losses.mean(), way[place - 1].losses.mean())
            axes.annotate(text, (place - 0.5, above), (0, 12), textcoords="offset points", ha="center", va="bottom",
                          fontsize="small", color=GREY)  # fmt: skip
    axes.set_xticks(range(len(way)), labels)
    axes.set_xlim(-0.5, len(way) - 0.5)
    axes.set_ylabel(LOSS)
    axes.margins(y=0.15)
    axes.grid(axis="x", visible=False)
    return axes


def plot_recipe_curves(
    runs: Sequence[Run], recipes: Sequence[str], model: ModelConfig, axes: Axes | None = None, seed: int = 0
) -> Axes:
    """Draw the training curves of several recipes at one model size and seed, and the line of knowing nothing."""
    curves = {}
    for recipe in recipes:
        own = [r for r in of_recipe(runs, recipe) if (r.config.model, r.config.train.seed) == (model, seed)]
        if not own:
            raise InputError(f"no run of recipe {recipe!r} at {model.name} with seed {seed} among the records")
        run = max(own, key=lambda r: sum(o.config.train.max_steps == r.config.train.max_steps for o in runs))
        curves[recipe.upper()] = [(p.step, p.train_loss) for p in run.history if p.train_loss is not None]
    axes = plot_curves(curves, axes, colours=[look_of(r)[0] for r in recipes])
    say_nothing(axes, model.vocab_size)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss (nats per token)")
    return axes


def say_nothing(axes: Axes, vocab_size: int) -> None:
    """The line of knowing nothing: a loss of ln(vocabulary)."""
    nothing = np.log(vocab_size)
    axes.axhline(nothing, color=FAINT, linestyle=":", linewidth=1.2)
    axes.annotate(f"ln {vocab_size:,} = {nothing:.2f}: knowing nothing", (0.98, nothing), (0, 2), ha="right",
                  xycoords=("axes fraction", "data"), textcoords="offset points", va="bottom", fontsize="small",
                  color=GREY)  # fmt: skip


def plot_schedules(rates: Mapping[str, Sequence[float]], axes: Axes | None = None) -> Axes:
    """Draw learning rates over a run. ``rates``: recipe -> the rate at every step, as a share of the peak."""
    curves = {recipe.upper(): list(enumerate(values)) for recipe, values in rates.items()}
    axes = plot_curves(curves, axes, colours=[look_of(recipe)[0] for recipe in rates])
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate (share of the peak)")
    return axes

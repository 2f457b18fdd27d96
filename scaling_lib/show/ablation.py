"""From one recipe to another, one change at a time: what each change did to the loss, beside its noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.noise import half_width

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
    own = [r for r in runs if r.config.train.recipe == recipe and r.finished]
    lengths: dict[int, set[ModelConfig]] = {}
    for r in own:
        lengths.setdefault(r.config.train.max_steps, set()).add(r.config.model)
    if not lengths:
        raise InputError(f"no finished runs of recipe {recipe!r} among the records")
    length = max_steps or max(lengths, key=lambda n: (len(lengths[n]), n))
    return {
        r.config.train.seed: r.val_loss
        for r in own
        if r.config.model == model and r.config.train.max_steps == length and r.val_loss is not None
    }


def plot_steps(way: Sequence[Step], labels: Sequence[str], axes: Axes | None = None) -> Axes:
    """Draw the losses of each recipe, a dot a seed, and the change from one to the next with its interval."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    for place, step in enumerate(way):
        axes.plot([place] * len(step.losses), step.losses, "o", color="#0072B2", alpha=0.7)
        axes.plot([place - 0.18, place + 0.18], [step.losses.mean()] * 2, color="#0072B2")
        if step.change is not None and step.low is not None and step.high is not None:
            text = f"{step.change:+.2f}\n[{step.low:+.2f}, {step.high:+.2f}]"
            above = max(step.losses.mean(), way[place - 1].losses.mean())
            axes.annotate(
                text, (place - 0.5, above), (0, 12), textcoords="offset points",
                ha="center", va="bottom", fontsize="small", color="#444444",
            )  # fmt: skip
    axes.set_xticks(range(len(way)), labels)
    axes.set_xlim(-0.5, len(way) - 0.5)
    axes.set_ylabel("validation loss (nats per token)")
    axes.margins(y=0.15)
    axes.grid(axis="x", visible=False)
    return axes


def plot_recipe_curves(
    runs: Sequence[Run], recipes: Sequence[str], model: ModelConfig, axes: Axes | None = None, seed: int = 0
) -> Axes:
    """Draw the training curves of several recipes at one model size and seed, and the line of knowing nothing."""
    import matplotlib.pyplot as plt

    from scaling_lib.show.plot import LOOKS

    if axes is None:
        axes = plt.subplots()[1]
    for recipe in recipes:
        own = [r for r in runs if (r.config.train.recipe, r.config.model, r.config.train.seed) == (recipe, model, seed)]
        if not own:
            raise InputError(f"no run of recipe {recipe!r} at {model.name} with seed {seed} among the records")
        run = max(own, key=lambda r: sum(o.config.train.max_steps == r.config.train.max_steps for o in runs))
        points = [(p.step, p.train_loss) for p in run.history if p.train_loss is not None]
        axes.plot(*zip(*points, strict=True), color=LOOKS[recipe][0], label=recipe.upper())
    nothing = np.log(model.vocab_size)
    axes.axhline(nothing, color="#888888", linestyle=":", linewidth=1.2)
    axes.annotate(
        f"ln {model.vocab_size:,} = {nothing:.2f}: knowing nothing",
        (0.98, nothing), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize="small", color="#666666",
    )  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel("training loss (nats per token)")
    axes.legend()
    return axes


def plot_schedules(rates: Mapping[str, Sequence[float]], axes: Axes | None = None) -> Axes:
    """Draw learning rates over a run. ``rates``: recipe -> the rate at every step, as a share of the peak."""
    import matplotlib.pyplot as plt

    from scaling_lib.show.plot import LOOKS

    if axes is None:
        axes = plt.subplots()[1]
    for recipe, values in rates.items():
        axes.plot(values, color=LOOKS[recipe][0], label=recipe.upper())
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate (share of the peak)")
    axes.legend()
    return axes

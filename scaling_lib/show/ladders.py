"""Which of a sweep's runs form a ladder in N or in D, and the law fitted to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run, check_poolable
from scaling_lib.words import short as short

MIN_RUNGS = 3
COUNT = {"N": "n_params_non_embedding", "D": "n_tokens"}  # of a run
# Recipes as figures call them, in the order of the way from V1 to V2; others follow in the order of the alphabet.
NAMES = {"v1": "V1", "v1-long": "V1, V2's steps", "v1-warmup": "V1 + warm-up", "v1-cosine": "V1 + warm-up, cosine",
         "v2": "V2", "wsd": "Warm-up, stable, decay"}  # fmt: skip
ORDER = tuple(NAMES)


@dataclass(frozen=True)
class Ladder:
    """Runs that differ in one variable alone, and the law through their final losses.

    variable : ``"N"`` (non-embedding parameters, all runs equally long) or ``"D"`` (tokens, one model).
    x, loss : float (n,), smallest x first; nats per token.
    fit : None where no law could be fitted at all; ``why_not`` says why.
    left_out : runs that belong here but did not finish, by name.
    """

    recipe: str
    variable: str
    runs: tuple[Run, ...]
    x: np.ndarray
    loss: np.ndarray
    fit: FitResult | None
    why_not: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def held(self) -> str:
        """What all runs of the ladder share, in words."""
        first = self.runs[0]
        if self.variable == "N":
            return f"{first.counts['n_tokens']:,.0f} tokens each"
        return f"{first.config.model.name}, {first.counts['n_params_non_embedding']:,.0f} parameters"


def find_ladders(runs: Sequence[Run]) -> list[Ladder]:
    """Find the ladder in N and the ladder in D of every recipe, and fit ``E + A / x^alpha`` to each.

    A recipe's ladder in N is at the number of steps that most of its sizes share, its ladder in D at the
    model with the most token counts. Fewer than three distinct x make no ladder.

    Raises InputError when the runs read different texts or use different vocabularies, or one model and recipe
    was trained at several peak rates: such runs differ in more than one thing.
    """
    check_poolable(runs)
    check_rates(runs)
    found = []
    for recipe in sorted({r.config.train.recipe for r in runs}, key=place):
        own = [r for r in runs if r.config.train.recipe == recipe]
        steps = _most_varied(own, lambda r: r.config.train.max_steps, lambda r: r.config.model)
        model = _most_varied(own, lambda r: r.config.model, lambda r: r.config.train.max_steps)
        for variable, members in (
            ("N", [r for r in own if r.config.train.max_steps == steps]),
            ("D", [r for r in own if r.config.model == model]),
        ):
            ladder = _ladder(recipe, variable, members)
            if ladder:
                found.append(ladder)
    return found


def place(recipe: str) -> tuple[int, str]:
    """Where a recipe stands in tables: on the way from V1 to V2, then by the alphabet."""
    return (ORDER.index(recipe) if recipe in ORDER else len(ORDER), recipe)


def check_rates(runs: Sequence[Run]) -> None:
    """Raise InputError where one model of one recipe was trained at two peak rates: they belong to no common law."""
    seen: dict[object, Run] = {}
    for run in runs:
        first = seen.setdefault((run.config.train.recipe, run.config.model), run)
        if first.config.train.lr != run.config.train.lr:
            raise InputError(
                f"runs {first.run_id} and {run.run_id} differ in their peak rate ({first.config.train.lr:g} and "
                f"{run.config.train.lr:g}), so they follow no common law; move one of the sweeps to a folder of its own"
            )


def _most_varied(runs: Sequence[Run], key, varies):  # type: ignore[no-untyped-def]
    """The value of ``key`` under which ``varies`` takes the most values; the largest of equals."""
    counts = Counter(k for k, _ in {(key(r), varies(r)) for r in runs})
    weight: dict[object, float] = {}
    for r in runs:
        weight[key(r)] = max(weight.get(key(r), 0.0), r.counts["n_tokens"] * r.counts["n_params"])
    return max(counts, key=lambda k: (counts[k], weight[k], str(k)))


def at_shared_length(runs: Sequence[Run]) -> list[Run]:
    """The finished runs of the length that most of their models share (the longest of equals)."""
    done = [r for r in runs if r.finished]
    models = Counter(steps for steps, _ in {(r.config.train.max_steps, r.config.model) for r in done})
    steps = max(models, key=lambda n: (models[n], n), default=0)
    return [r for r in done if r.config.train.max_steps == steps]


def _ladder(recipe: str, variable: str, members: Sequence[Run]) -> Ladder | None:
    column = COUNT[variable]
    good = sorted((r for r in members if r.finished), key=lambda r: r.counts[column])
    left_out = tuple(r.run_id for r in members if not r.finished)
    x = np.array([r.counts[column] for r in good])
    if len(set(x)) < MIN_RUNGS:
        return None
    loss = np.array([r.val_loss for r in good], dtype=float)
    fit, why_not = None, ""
    try:
        fit = fit_power_law(x, loss, variable=variable, labels=[r.run_id for r in good])
    except ValueError as error:
        why_not = str(error)
    return Ladder(recipe, variable, tuple(good), x, loss, fit, why_not, left_out)


def recipe_name(recipe: str) -> str:
    """A recipe in words for figures, whose readers know no names of options."""
    return NAMES.get(recipe, recipe.upper())


def text_of(run: Run) -> str:
    """The text that a run read, by name, without a made text's options."""
    name = str(run.corpus["name"])
    return name.partition(":")[0] if "=" in name else name

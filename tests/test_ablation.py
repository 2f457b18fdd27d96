"""One change at a time: paired differences against SciPy's paired t-test."""

import matplotlib as mpl
import numpy as np
import pytest
from scaling_lib.show.ablation import ablation_steps, plot_recipe_curves, plot_schedules, plot_steps
from scipy import stats

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.errors import InputError
from scaling_lib.runs import Point, Run

mpl.use("agg")
MODEL = ModelConfig(2, 2, 32, 512, 64)
SMALLER = ModelConfig(1, 2, 32, 512, 64)


def run(recipe: str, seed: int, loss: float, steps: int = 100, model: ModelConfig = MODEL) -> Run:
    train = TrainConfig(recipe, steps, 16, 1e-3, "constant", seed=seed)
    return Run(
        run_id=f"{recipe}-{model.name}-{steps}-{seed}",
        status="finished",
        config=RunConfig(model, train, "python-stdlib"),
        corpus={"fingerprint": "f" * 64},
        history=(Point(0, 0, 1e-3, 6.2), Point(steps, steps * 1024, 1e-3, loss)),
        val_loss=loss,
        val_loss_se=0.1,
        bits_per_byte=None,
        epochs=0.1,
        environment={},
        seconds=1.0,
        tokens_per_second=1000,
    )


def sweep(losses: dict[str, list[float]]) -> list[Run]:
    return [run(recipe, seed, loss) for recipe, row in losses.items() for seed, loss in enumerate(row)]


def test_change_and_interval_are_those_of_a_paired_t_test():
    rng = np.random.default_rng(1)
    first = rng.normal(4.0, 0.3, 5)  # seeds differ much, the change little: only pairing sees it
    second = first - 0.1 + rng.normal(0, 0.01, 5)
    step = ablation_steps(sweep({"a": list(first), "b": list(second)}), ("a", "b"), MODEL, level=0.9)[1]
    oracle = stats.ttest_rel(second, first)
    interval = oracle.confidence_interval(0.9)
    assert step.change == pytest.approx(np.mean(second - first))
    assert (step.low, step.high) == pytest.approx((interval.low, interval.high))
    assert step.high < 0


def test_the_length_that_most_sizes_share_counts():
    runs = sweep({"a": [4.0, 4.1], "b": [3.0, 3.1]})
    runs += [run("b", seed, 2.0, steps=999) for seed in range(2)]  # a rung of a ladder in D
    runs += [run("b", seed, 3.5, model=SMALLER) for seed in range(2)]
    assert ablation_steps(runs, ("a", "b"), MODEL)[1].losses == pytest.approx([3.0, 3.1])


@pytest.mark.parametrize(
    ("losses", "recipes", "message"),
    [
        ({"a": [4.0, 4.1]}, ("a", "b"), "no finished runs of recipe 'b'"),
        ({"a": [4.0, 4.1], "b": [3.0]}, ("a", "b"), "has seeds [0]"),
        ({"a": [4.0]}, ("a",), "has seeds [0]"),
    ],
)
def test_missing_runs_are_named(losses, recipes, message):
    with pytest.raises(InputError) as error:
        ablation_steps(sweep(losses), recipes, MODEL)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_figures_show_every_seed_and_the_line_of_knowing_nothing():
    runs = sweep({"v1": [4.0, 4.1, 4.2], "v2": [3.0, 3.1, 3.2]})
    axes = plot_steps(ablation_steps(runs, ("v1", "v2"), MODEL), ["V1", "V2"])
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [len(line.get_ydata()) for line in dots] == [3, 3]
    assert [t.get_text().splitlines()[0] for t in axes.texts] == ["-1.00"]
    assert "nats per token" in axes.get_ylabel()

    axes = plot_recipe_curves(runs, ("v1", "v2"), MODEL, seed=1)
    assert list(axes.lines[0].get_ydata()) == [6.2, 4.1]
    assert axes.lines[-1].get_ydata()[0] == pytest.approx(np.log(512))

    axes = plot_schedules({"v1": [1, 1], "v2": [0.5, 1]})
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["V1", "V2"]

"""Figures from made records: what is drawn, at which values, and what is not drawn because nothing was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_lib.fit import fit_joint
from scaling_lib.runs import Point, Run
from scaling_lib.show.changes import changes
from scaling_lib.show.ladders import Ladder, find_ladders, short
from scaling_lib.show.panels import plot_fit, plot_gaps, plot_overview, plot_recipes, plot_training_curves
from scaling_lib.show.plot import (
    BEYOND,
    LOSS,
    NO_PREDICTION,
    Row,
    bracket,
    look,
    look_of,
    plot_curves,
    plot_intervals,
    plot_law,
    plot_residuals,
    reach,
)
from scaling_lib.sweep.recipes import RECIPES

mpl.use("agg")
Make = Callable[..., Run]
WIDTHS = (16, 32, 48, 64, 96, 128)
STEPS = (50, 100, 200, 400, 800, 1600)


def law(x: float) -> float:
    return 2.0 + 30.0 / x**0.3


def size_of(d_model: int) -> int:
    return 24 * d_model**2 + 6 * d_model


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def runs(make_run: Make) -> list[Run]:
    """V1 flat, V2 on a law in N and on one in D."""
    noise = np.random.default_rng(1).normal(0, 0.001, 6)
    made = [make_run("v1", d_model=d, loss=4.0 + 0.01 * (-1) ** i) for i, d in enumerate(WIDTHS)]
    made += [make_run("v2", d_model=d, loss=law(size_of(d)) + e) for d, e in zip(WIDTHS, noise, strict=True)]
    made += [make_run("v2", d_model=64, steps=s, loss=law(s * 1024)) for s in STEPS if s != 100]
    return made


def ladder_of(runs: list[Run], recipe: str, variable: str) -> Ladder:
    return next(x for x in find_ladders(runs) if (x.recipe, x.variable) == (recipe, variable))


def panel(figure: Figure, name: str) -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_label() == name]
    return found


def points_of(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_linestyle() == "None"]


def curves_of(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_linestyle() != "None"]


def legend_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_overview_has_its_four_panels_named_and_labelled_with_units(runs: list[Run]) -> None:
    figure = plot_overview(runs)
    labels = {axes.get_label(): (axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes}
    assert labels == {
        "N": ("non-embedding parameters N", LOSS), "D": ("training tokens D", LOSS),
        **dict.fromkeys(("curves N", "curves D"), ("training tokens seen", "training loss (nats per token)")),
    }  # fmt: skip
    assert all(axes.get_xscale() == "log" for axes in figure.axes)


def test_every_run_is_a_point_at_its_size_and_loss(runs: list[Run]) -> None:
    figure = plot_overview(runs)
    v1, v2 = points_of(panel(figure, "N"))
    for line, recipe in ((v1, "v1"), (v2, "v2")):
        own = [r for r in runs if r.config.train.recipe == recipe and r.config.train.max_steps == 100]
        np.testing.assert_array_equal(line.get_xdata(), [size_of(r.config.model.d_model) for r in own])
        np.testing.assert_array_equal(line.get_ydata(), [r.val_loss for r in own])
        assert (line.get_color(), line.get_marker()) == look_of(recipe)
    (tokens,) = points_of(panel(figure, "D"))
    np.testing.assert_array_equal(tokens.get_xdata(), [s * 1024 for s in STEPS])


def test_a_law_is_drawn_through_the_runs_and_dashed_beyond_them(runs: list[Run]) -> None:
    ladder = ladder_of(runs, "v2", "N")
    assert ladder.fit is not None
    axes = plot_fit(ladder)
    inside, outside = curves_of(axes)
    assert (inside.get_linestyle(), outside.get_linestyle()) == ("-", "--")
    smallest, largest = size_of(WIDTHS[0]), size_of(WIDTHS[-1])
    assert np.asarray(inside.get_xdata())[[0, -1]] == pytest.approx([smallest, largest])
    end = reach(ladder.fit)
    assert np.asarray(outside.get_xdata())[[0, -1]] == pytest.approx([largest, end])
    assert largest < end <= largest * BEYOND * 1.0001
    for line in (inside, outside):
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        np.testing.assert_allclose(y, ladder.fit.predict(x), rtol=1e-9)
    assert np.abs(np.asarray(inside.get_ydata(), float) - law(np.asarray(inside.get_xdata(), float))).max() < 0.01


@pytest.fixture
def noisy(make_run: Make) -> Ladder:
    """Ten sizes whose losses scatter by 0.05 about a law: bands that can be told apart."""
    widths = (16, 24, 32, 48, 64, 80, 96, 128, 160, 192)
    noise = np.random.default_rng(3).normal(0, 0.05, len(widths))
    return ladder_of(
        [make_run("v2", d_model=d, loss=law(size_of(d)) + e) for d, e in zip(widths, noise, strict=True)], "v2", "N"
    )


def test_the_bands_are_the_90_percent_intervals_of_a_new_run_and_of_the_law(noisy: Ladder) -> None:
    assert noisy.fit is not None
    axes = plot_fit(noisy)
    bands = [c for c in axes.collections if isinstance(c, PolyCollection)]
    inside, outside = curves_of(axes)
    grid = [float(line.get_xdata()[k]) for line in (inside, outside) for k in (1, 30)]
    widths = []
    for band, kind in zip(bands, ("new_run", "mean"), strict=True):
        edge = band.get_paths()[0].vertices
        for x in grid:
            low, high = noisy.fit.interval(x, level=0.9, kind=kind)
            here = edge[edge[:, 0] == x][:, 1]
            assert [here.min(), here.max()] == pytest.approx([max(low, 0), min(high, 20)], rel=1e-6)
            widths.append(high - low)
    assert all(of_run > of_law for of_run, of_law in zip(widths[:4], widths[4:], strict=True))
    assert bands[0].get_alpha() < bands[1].get_alpha()


def test_no_law_is_drawn_that_three_runs_cannot_identify_or_that_is_none(runs: list[Run], make_run: Make) -> None:
    three = [make_run("v2", d_model=d, loss=law(size_of(d))) for d in (16, 48, 128)]
    for made, recipe, said in ((three, "v2", "V2: not identifiable"), (runs, "v1", "V1: no trend")):
        axes = plot_fit(ladder_of(made, recipe, "N"))
        assert [line.get_label() for line in axes.lines] == [said]
        assert not axes.collections


def test_a_law_stops_where_its_verdict_refuses_and_no_prediction_stands_there(runs: list[Run]) -> None:
    ladder = ladder_of(runs, "v2", "N")
    fit = ladder.fit
    assert fit is not None
    axes = plot_fit(ladder, extrapolate=1e6)
    end = float(np.asarray(curves_of(axes)[-1].get_xdata())[-1])
    assert not fit.verdict(end).refused
    assert fit.verdict(end * 1.05).refused
    assert max(c.get_paths()[0].vertices[:, 0].max() for c in axes.collections) == pytest.approx(end)
    (said,) = [t for t in axes.texts if t.get_text() == NO_PREDICTION]
    assert said.xy == pytest.approx((end, fit.predict(end)))
    assert axes.get_xlim()[1] >= ladder.x.max() * 1e6
    (said,) = plot_fit(ladder_of(runs, "v1", "N")).texts
    assert said.get_text() == NO_PREDICTION
    assert not plot_fit(ladder, extrapolate=1.5).texts


def test_hidden_runs_are_hollow_and_a_joint_law_is_drawn_where_the_other_variable_is_held(make_run: Make) -> None:
    rng = np.random.default_rng(2)
    grid = [(n, d) for n in np.geomspace(1e5, 1e7, 6) for d in np.geomspace(1e6, 1e8, 6)]
    n, d = np.array(grid).T
    fit = fit_joint(n, d, (2 + 30 / n**0.3 + 60 / d**0.3) * np.exp(1e-3 * rng.normal(size=len(n))))
    axes = plot_law(fit, along="D", held=n[0], beyond=2.0, hidden=([3e8, 4e8], [2.9, 2.8]), bands=())
    seen, hidden = points_of(axes)
    np.testing.assert_array_equal(seen.get_xdata(), d[n == n[0]])
    assert (list(hidden.get_xdata()), hidden.get_markerfacecolor()) == ([3e8, 4e8], "white")
    for line in curves_of(axes):
        x = np.asarray(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), fit.predict(np.full_like(x, n[0]), x))
    assert not axes.collections


def test_intervals_are_drawn_end_to_end_and_an_end_off_the_axis_is_an_arrow() -> None:
    rows = [Row("a", 0.5, 0.4, 0.7), Row("b", 0.3, 0.2, np.inf), Row("c", None, note="no trend"), Row("d", 0.4)]
    axes = plot_intervals(rows, truth=0.45)
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"]
    right = axes.get_xlim()[1]
    assert [list(line.get_xdata()) for line in bars[1:]] == [[0.4, 0.7], [0.2, right]]
    assert list(bars[0].get_xdata()) == [0.45, 0.45]
    (arrow,) = [line for line in axes.lines if line.get_marker() == ">"]
    assert list(arrow.get_xdata()) == [right]
    assert [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"] == [0.5, 0.3, 0.4]
    assert [t.get_text() for t in axes.texts] == ["no trend"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b", "c", "d"]
    assert axes.get_xlim()[0] < 0.2 < 0.7 < right < 1.0


def test_no_series_is_dropped_and_none_looks_like_another() -> None:
    assert len({look(i) for i in range(56)}) == 56
    looks = [look_of(recipe) for recipe in RECIPES]
    assert len({colour for colour, _ in looks}) == len({m for _, m in looks}) == len(RECIPES)
    curves = {str(i): [(1, i), (2, i)] for i in range(12)}
    axes = plot_curves(curves, colours=[look(i)[0] for i in range(12)])
    assert len(axes.lines) == len(legend_of(axes)) == 12
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1], "what lies on top lets what lies below be seen"


def test_residuals_are_in_percent(runs: list[Run]) -> None:
    fit = ladder_of(runs, "v2", "N").fit
    assert fit is not None
    axes = plot_residuals({"V2": fit})
    (drawn,) = points_of(axes)
    np.testing.assert_allclose(drawn.get_ydata(), 100 * (fit.data["loss"] / fit.predict(fit.data["N"]) - 1), atol=1e-9)


def test_the_legend_says_exponent_interval_and_verdict(runs: list[Run]) -> None:
    figure = plot_overview(runs)
    for variable, greek, name in (("N", "α", "alpha"), ("D", "β", "beta")):
        fit = ladder_of(runs, "v2", variable).fit
        assert fit is not None
        ends = bracket(fit.params[name], *fit.parameter_interval(name))
        assert legend_of(panel(figure, variable))[-1] == f"V2: {greek} = {ends}, {fit.verdict().level}"
        assert fit.params[name] == pytest.approx(0.3, abs=0.05)


def test_a_band_that_opens_wide_does_not_widen_the_frame(make_run: Make) -> None:
    # Sizes so alike that the law's future is wide open.
    widths = (48, 56, 64, 72, 80, 96, 112)
    noise = np.random.default_rng(1).normal(0, 0.02, len(widths))
    made = [make_run("v2", d_model=d, loss=law(size_of(d)) + e) for d, e in zip(widths, noise, strict=True)]
    ladder = ladder_of(made, "v2", "N")
    axes = plot_fit(ladder)
    low, high = axes.get_ylim()
    assert 0 <= low < ladder.loss.min() < ladder.loss.max() < high
    assert high - low < 4 * np.ptp(ladder.loss)


def test_training_curves_show_what_the_records_hold(make_run: Make) -> None:
    history = (
        Point(0, 0, 0.1, 6.2),
        Point(5, 5120, 0.1, 5.0, 5.1),
        Point(9, 9216, 0.1, None),
        Point(10, 10240, 0.1, 4.0),
    )
    runs = [make_run(d_model=d, loss=law(size_of(d)), history=history) for d in WIDTHS]
    axes = plot_training_curves(ladder_of(runs, "v2", "N"))
    assert len(axes.lines) == 6
    # Neither the first batch (at 0 tokens, which a logarithmic axis has not) nor a loss that was no number.
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [5120, 10240])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [5.0, 4.0])
    assert legend_of(axes) == [short(size_of(d)) for d in WIDTHS]
    assert axes.get_legend().get_title().get_text() == "parameters"
    colours = [mpl.colors.to_rgb(line.get_color()) for line in axes.lines]
    assert len(set(colours)) == 6
    brightness = [np.dot(c, (0.3, 0.6, 0.1)) for c in colours]
    assert brightness == sorted(brightness, reverse=True)  # dark for the largest


def test_curves_of_several_seeds_are_those_of_the_first(make_run: Make) -> None:
    runs = [make_run(d_model=d, seed=s, loss=law(size_of(d)) + s) for s in range(3) for d in WIDTHS]
    axes = plot_training_curves(ladder_of(runs, "v2", "N"))
    assert [line.get_ydata()[-1] for line in axes.lines] == [law(size_of(d)) + 0.25 for d in WIDTHS]


def test_without_ladders_the_panels_say_so(make_run: Make) -> None:
    figure = plot_overview([make_run(d_model=16), make_run(d_model=32)])
    assert [axes.texts[0].get_text() for axes in figure.axes] == [
        "no ladder in N: at least three sizes are needed", "no ladder in D: at least three lengths are needed",
        "no ladder in N", "no ladder in D",
    ]  # fmt: skip
    assert not any(axes.lines for axes in figure.axes)


def test_figures_are_drawn_where_asked_and_nothing_global_changes(runs: list[Run]) -> None:
    settings = dict(mpl.rcParams)
    figure = Figure()
    assert plot_overview(runs, figure) is figure
    axes = Figure().add_subplot()
    assert plot_fit(ladder_of(runs, "v2", "D"), axes) is axes
    assert plot_training_curves(ladder_of(runs, "v2", "D"), axes) is axes
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == []


def test_recipes_that_lie_on_each_other_are_told_apart(make_run: Make) -> None:
    """The end of their curves enlarged, and what each loses against the last at every size, side by side."""
    noise = np.random.default_rng(5).normal(0, 0.01, (2, 6, 3))
    made = {
        recipe: [
            make_run(recipe, d_model=d, seed=s, loss=law(size_of(d)) + gap + float(noise[k, i, s]))
            for i, d in enumerate(WIDTHS) for s in range(3)
        ]
        for k, (recipe, gap) in enumerate((("v1-cosine", 0.02), ("v2", 0.0)))
    }  # fmt: skip
    figure = Figure()
    plot_recipes({recipe: runs[0] for recipe, runs in made.items()}, figure)
    whole, end = figure.axes
    assert [line.get_color() for line in end.lines] == [look_of(recipe)[0] for recipe in made]
    last = [runs[0].val_loss for runs in made.values()]
    assert end.get_ylim()[0] < min(v for v in last if v) < whole.get_ylim()[1]
    assert end.get_xlim()[0] > whole.get_xlim()[0]
    first, second = (Ladder(r, "N", tuple(v), np.ones(18), np.ones(18), None) for r, v in made.items())
    rows = changes(second.runs, first.runs, lambda r: (r.counts["n_params_non_embedding"],))
    axes = Figure().add_subplot()
    plot_gaps({"v1-cosine": rows, "v1-long": rows}, second, axes)
    one, two = axes.containers
    assert list(one[0].get_ydata()) == list(two[0].get_ydata()) == [c.change for c in rows]
    assert all(a < size_of(d) < b for a, d, b in zip(one[0].get_xdata(), WIDTHS, two[0].get_xdata(), strict=True))
    whiskers = np.array([segment[:, 1] for segment in one[2][0].get_segments()])
    np.testing.assert_allclose(whiskers, [(c.low, c.high) for c in rows])

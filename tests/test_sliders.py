"""Sliders: what is drawn and said follows what is set, whatever order it is set in, and nothing needs torch."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("ipywidgets")

from PIL import Image

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.isoflops import isoflop
from scaling_lib.runs import Run
from scaling_lib.show.sliders import BudgetPlanner, Explorer, IsoFlopLab, LawByHand, our_source, published_source
from scaling_lib.show.sliders.canvas import plain, png
from scaling_lib.show.sliders.panel import LogSlider, Slider, slider
from scaling_lib.show.sliders.planner import MACHINES


def grid(make_run: Callable[..., Run], law: Callable[[float, float], float], noise: float, seed: int):
    """The law of a grid of six sizes and four lengths."""
    errors = np.random.default_rng(seed).normal(0, noise, (6, 4))
    return our_source(
        [
            make_run("wsd", d_model=d, steps=s, loss=law(24 * d**2 + 6 * d, s * 1024) * (1 + e))
            for d, row in zip((16, 32, 48, 64, 96, 128), errors.tolist(), strict=True)
            for s, e in zip((50, 100, 200, 400), row, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def ours(make_run: Callable[..., Run]):
    return grid(make_run, lambda n, d: 1.8 + 30 / n**0.3 + 300 / d**0.45, 0.002, 2)


@pytest.fixture(scope="module")
def theirs():
    return published_source("chinchilla-epoch")


def picture(canvas) -> np.ndarray:
    return np.hstack([np.asarray(Image.open(io.BytesIO(image.value))) for image in canvas.images])


def number(text: str) -> float:
    found = re.search(r"<b>([0-9.]+) nats per token</b>", text)
    assert found, text
    return float(found[1])


# ---- the explorer


def test_the_explorer_says_the_laws_loss_at_the_sliders(ours, theirs):
    explorer = Explorer([ours, theirs])
    explorer.law.value = theirs.title
    for n, d in ((1e9, 1e10), (1.75e11, 3e11)):
        explorer.n.value, explorer.d.value = n, d
        assert number(explorer.text.value) == pytest.approx(theirs.law.predict(n, d), abs=6e-4)
        low, high = theirs.law.interval(n, d, level=0.9)
        assert f"{low:.3f} to {high:.3f}" in explorer.text.value
        for panel, at in zip(explorer._panels, (n, d), strict=True):
            assert panel.here.get_xdata()[0] == at
    explorer.level.value = 0.5
    low, high = theirs.law.interval(1.75e11, 3e11, level=0.5)
    assert f"50% interval of the law's mean {low:.3f} to {high:.3f}" in explorer.text.value


def test_the_curves_pass_through_the_marker_and_are_dashed_beyond_the_runs(theirs):
    explorer = Explorer([theirs])
    explorer.n.value, explorer.d.value = 1e11, 1e12
    for panel, ran, here in zip(explorer._panels, (theirs.n_range, theirs.d_range), (1e11, 1e12), strict=True):
        x = panel.inside.get_xdata()
        solid, dashed = panel.inside.get_ydata(), panel.outside.get_ydata()
        assert np.all(np.isfinite(solid) == ((x >= ran[0]) & (x <= ran[1])))
        assert set(x[np.isfinite(solid) & np.isfinite(dashed)]) == set(ran)  # no gap: both parts hold the ends
        both = np.where(np.isfinite(solid), solid, dashed)
        assert np.all(np.isfinite(both))
        assert np.interp(np.log(here), np.log(x), both) == pytest.approx(theirs.law.predict(1e11, 1e12), rel=0.01)


def test_a_prediction_that_the_verdict_refuses_is_neither_said_nor_drawn(ours):
    explorer = Explorer([ours])
    explorer.jump.value = "GPT-4 (rumour)"
    assert explorer.n.value == 1.8e12
    assert "No prediction" in explorer.text.value
    assert "nats per token" not in explorer.text.value
    assert "decades in N beyond the largest run" in explorer.text.value
    for panel, at in zip(explorer._panels, (1.8e12, 1.3e13), strict=True):
        assert len(panel.here.get_xdata()) == len(panel.inside.get_xdata()) == len(panel.band.get_paths()) == 0
        assert panel.target.get_xdata()[0] == at
        assert panel.refused.get_text().strip() == "no prediction"
    explorer.reset.click()
    assert explorer.n.value == pytest.approx(ours.n_range[1])
    assert explorer.jump.value == ""
    assert number(explorer.text.value) == pytest.approx(ours.law.predict(ours.n_range[1], ours.d_range[1]), abs=6e-4)
    assert explorer._panels[0].refused.get_text() == ""


def test_a_law_of_ours_is_drawn_about_as_far_as_its_verdict_allows(ours):
    explorer = Explorer([ours])
    n, d = explorer.n.value, explorer.d.value
    for panel, at in zip(explorer._panels, (lambda x: (x, d), lambda x: (n, x)), strict=True):
        last = panel.outside.get_xdata()[-1]
        assert last < 10 ** panel._ends[1] / 10
        assert not ours.law.verdict(*at(last)).refused
        assert ours.law.verdict(*at(last * 10**0.6)).refused


def test_a_budget_is_spent_as_the_law_says(theirs):
    explorer = Explorer([theirs])
    explorer.by.value = "budget"
    assert explorer.n.disabled
    assert explorer.d.disabled
    explorer.c.value = 5.76e23
    best = compute_optimal(theirs.law, 5.76e23)
    assert (explorer.n.value, explorer.d.value) == pytest.approx((best.n_params, best.n_tokens))
    explorer.by.value = "nd"
    assert not explorer.n.disabled
    explorer.by.value = "budget"
    explorer.reset.click()
    assert (explorer.n.disabled, explorer.c.disabled) == (False, True)
    explorer.n.value = 1e9
    assert explorer.c.value == pytest.approx(6 * 1e9 * explorer.d.value)
    explorer.by.value = "budget"
    for far in (explorer.c.min, explorer.c.max):  # the slider of C reaches further than those of the best N and D
        explorer.c.value = 10**far
        best = compute_optimal(theirs.law, explorer.c.value)
        assert (explorer.n.value, explorer.d.value) == pytest.approx((best.n_params, best.n_tokens))


def test_a_known_model_is_left_when_a_slider_moves(theirs):
    explorer = Explorer([theirs])
    explorer.jump.value = "GPT-3 175B"
    assert (explorer.n.value, explorer.d.value) == (174.6e9, 300e9)
    assert "2.008 nats" in explorer.text.value
    explorer.level.value = 0.5
    assert explorer.jump.value == "GPT-3 175B"
    explorer.d.value = 600e9
    assert explorer.jump.value == ""
    explorer.jump.value = "GPT-3 175B"
    assert explorer.d.value == 300e9


def test_laws_of_two_texts_never_share_an_axis(ours, theirs):
    explorer = Explorer([ours, theirs])
    assert ours.text in explorer.canvas.figure.axes[0].get_title("left")
    points = sum(len(line.get_xdata()) for line in explorer._axes[0].lines if line.get_marker() == "o")
    assert points >= len(ours.loss)
    explorer.law.value = theirs.title
    assert theirs.text in explorer.canvas.figure.axes[0].get_title("left")
    assert sum(len(line.get_xdata()) for line in explorer._axes[0].lines if line.get_marker() == "o") == 0
    kaplan = Explorer([published_source("kaplan-joint")])  # without a covariance, so without a band
    assert "no interval can be given" in kaplan.text.value
    assert all(not panel.band.get_paths() for panel in kaplan._panels)


def test_the_picture_is_drawn_anew_and_keeps_its_size(theirs):
    explorer = Explorer([theirs])
    first = picture(explorer.canvas)
    explorer.n.value = 1e7
    second = picture(explorer.canvas)
    assert first.shape == second.shape == (430, 900, 3)
    changed = np.abs(first.astype(int) - second).max(axis=2) > 0
    assert 0.001 < changed.mean() < 0.2  # the marker, the curves: not the axes
    explorer.reset.click()
    np.testing.assert_array_equal(picture(explorer.canvas), first)


def everything(widget):
    """A widget and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def test_every_slider_has_its_unit_a_tooltip_and_a_reading_and_no_running_kernel_is_needed(ours, theirs):
    made = [Explorer([ours]), IsoFlopLab(theirs.law), BudgetPlanner(theirs), LawByHand(ours.n_params, ours.loss)]
    for thing in made:
        inside = list(everything(thing.widget))
        sliders = [w for w in inside if "Slider" in type(w).__name__]
        assert len(sliders) >= 3
        for one in sliders:
            assert one.tooltip, one.description
            assert one.row in inside
            beside = one.row.children[1]
            before = beside.value
            one.value = one.value * 1.2 if one.value else one.step * 3
            assert one.disabled or beside.value != before, one.description
        assert any("reset" in getattr(w, "description", "") for w in inside)
        kinds = {type(w).__name__ for w in inside}
        assert "Output" not in kinds
        assert set(thing.canvas.images) <= set(inside)
        assert any("clip-path" in getattr(w, "value", "") and len(w.value) > 100 for w in inside if hasattr(w, "value")
                   and isinstance(w.value, str))  # fmt: skip
        assert not any(
            image.tooltip for image in thing.canvas.images
        )  # ipywidgets 8.1: a tooltip on an Image keeps a browser from showing it


@pytest.mark.parametrize(("base", "kind"), [(10.0, LogSlider), (1.0, Slider)])
def test_a_value_that_a_browser_only_rounded_is_kept(base, kind):
    moves = []
    made = slider(kind, "x", "a tip", moves.append, str, min=0.0, max=12.0, step=0.02, value=1.0)
    made.value = exact = 1.746 if kind is Slider else 10**1.746
    moves.clear()
    for near in (1.74, 1.746, 1.7555):  # the steps next to it: what a browser reports when it is given the value
        made.set_state({"value": near if kind is Slider else 10**near})
        assert made.value == exact
        assert not moves
    made.set_state({"value": 1.76 if kind is Slider else 10**1.76})  # somebody pressed a key
    assert made.value != exact
    assert len(moves) == 1
    made.set_state({"disabled": True})
    assert made.disabled


def test_a_panel_shows_itself_and_a_still_of_itself(theirs, monkeypatch):
    explorer = Explorer([theirs])
    explorer.jump.value = "GPT-3 175B"
    still = explorer.still()
    shown = np.asarray(Image.open(io.BytesIO(still._repr_png_())).convert("RGB"))
    np.testing.assert_array_equal(shown[:430], picture(explorer.canvas))
    assert shown[430:].min() < 100  # words below
    assert "0x" not in repr(still)
    monkeypatch.setattr(explorer.widget, "_repr_mimebundle_", lambda **_: {"text/plain": "VBox(...)", "view": 1})
    assert explorer._repr_mimebundle_() == {"text/plain": "<Explorer: its sliders need a running kernel>", "view": 1}
    monkeypatch.setenv("VOILA_REQUEST_URL", "http://localhost")
    assert explorer.still() is None


def test_words_are_the_same_without_html():
    assert plain("<div style='a'>L = 1 / N<sup>0.3</sup> &gt; 2<br><b>no</b></div>") == "L = 1 / N^0.3 > 2\nno"


def test_no_law_an_unknown_one_and_two_of_one_name_are_refused(theirs):
    for wrong in ([], [theirs, theirs]):
        with pytest.raises(InputError):
            Explorer(wrong)
    with pytest.raises(InputError, match=r"\Ano published law of N and D is called 'x'; there are [^\n]+\Z"):
        published_source("x")
    with pytest.raises(InputError):
        published_source("kaplan-n")


# ---- by hand, the lab, the planner


def test_by_hand_the_objective_is_least_at_the_best_fit():
    x = np.geomspace(1e4, 1e6, 7)
    loss = (2 + 40 / x**0.35) * np.exp(np.random.default_rng(0).normal(0, 0.003, 7))
    hand = LawByHand(x, loss)
    before = hand.objective
    hand.show_best.click()
    assert hand.objective == pytest.approx(hand.best.cost, rel=1e-6)
    assert hand.objective < before / 10
    assert "this is the best fit" in hand.text.value
    assert hand._residuals.get_ydata() == pytest.approx(100 * hand.best.residuals, abs=1e-6)
    for one in (hand.floor, hand.height, hand.exponent):
        kept = one.value
        one.value = kept * 1.05
        assert hand.objective > hand.best.cost
        one.value = kept
    hand.reset.click()
    assert hand.objective == pytest.approx(before)
    assert hand.predict(x) == pytest.approx(hand.floor.value + hand.height.value * (hand._middle / x) ** 0.1)


def test_by_hand_the_best_for_a_floor_is_the_fit_with_that_floor_held():
    runs = published.cerebras_gpt()
    hand = LawByHand(runs.n_params, runs.loss)
    for floor in (0.0, 0.8):
        hand.floor.value = floor
        hand.fit_rest.click()
        held = fit_power_law(runs.n_params, runs.loss, floor=floor)
        assert hand.floor.value == floor
        assert hand.exponent.value == pytest.approx(held.params["alpha"], rel=1e-6)
        assert hand.objective == pytest.approx(held.cost, rel=1e-6)
        far = 30 * max(runs.n_params)
        assert f"it says {held.predict(far):.3f} nats per token" in hand.text.value
        assert hand._floor_line.get_ydata() == pytest.approx([floor, floor])
    hand.floor.value = hand.floor.max  # as high as it goes, there still is a law
    hand.fit_rest.click()
    assert hand.objective > hand.best.cost


def test_the_labs_numbers_are_those_of_the_fit():
    law = published.laws["chinchilla"]
    lab = IsoFlopLab(law)
    lab.offset.value, lab.width.value = 1.5, 16.0
    true = np.asarray(compute_optimal(law, np.logspace(17, 21, 5)).n_params)
    n = (true * 2**1.5)[:, None] * np.geomspace(1 / 16, 16, 15)
    c = np.broadcast_to(np.logspace(17, 21, 5)[:, None], n.shape)
    found = isoflop(n.ravel(), c.ravel(), law.predict(n, c / (6 * n)).ravel(), window=np.inf)  # as the lab: all sizes
    assert f"C<sup>{found.a:.3f}</sup>; the truth" in lab.text.value
    assert lab._minima.get_xdata() == pytest.approx(found.n_opt[found.used])
    best = compute_optimal(law, 1e24)
    assert lab.error == pytest.approx(100 * (found.optimal(1e24)[1] / best.n_tokens - 1), abs=1e-4)
    assert f"{lab.error:+.1f}%" in lab.text.value
    assert lab._far.get_ydata()[0] == pytest.approx(lab.error)


def test_the_labs_errors_are_those_of_the_literature():
    # arXiv 2603.22339: error of D* at 1e24 for exponents .34 and .28, 15 sizes, budgets 1e17 to 1e21, in per cent
    law = published.laws["chinchilla"]
    printed = dataclasses.replace(law, params={**law.params, "alpha": 0.34, "beta": 0.28})
    lab = IsoFlopLab(printed)
    for width, error in ((2, -0.327), (4, -1.301), (8, -2.903), (16, -5.100)):
        lab.width.value = float(width)
        assert lab.error == pytest.approx(error, abs=0.02)


def test_a_grid_that_misses_the_optimum_gives_no_exponent():
    lab = IsoFlopLab(published.laws["chinchilla"])
    lab.width.value, lab.offset.value = 1.5, 3.0
    assert "No exponent" in lab.text.value
    assert lab.found is None
    assert np.isnan(lab.error)
    assert len(lab._line.get_xdata()) == 0
    lab.reset.click()
    assert "No exponent" not in lab.text.value


def test_the_planner_spends_hours_and_counts_the_money(theirs):
    planner = BudgetPlanner(theirs)
    planner.hours.value = 10.0
    planner.price.value = 2.5
    assert planner.flops == pytest.approx(MACHINES[1].flops_per_second * 36_000)
    assert "25.00 dollars" in planner.text.value
    best = compute_optimal(theirs.law, planner.flops)
    assert number(planner.text.value) == pytest.approx(best.loss, abs=6e-4)
    assert planner._here.get_xdata()[0] == planner.flops
    planner.money.value = 75.0
    assert planner.hours.value == pytest.approx(30.0)
    planner.compute.value = 2e20
    assert planner.flops == pytest.approx(2e20)
    assert planner.money.value == pytest.approx(2.5 * 2e20 / MACHINES[1].flops_per_second / 3600)
    planner.machine.value = MACHINES[0]
    assert planner.hours.value == pytest.approx(2e20 / MACHINES[1].flops_per_second / 3600)  # time is what one has
    assert planner.flops == pytest.approx(planner.compute.value)
    assert planner.price.value == MACHINES[0].dollars_per_hour
    planner.reset.click()
    assert planner.machine.value is MACHINES[1]
    assert planner.dollars == pytest.approx(72.0)
    planner.compute.value = 1e9  # less than the shortest time: the sliders say what they can buy
    assert planner.compute.value == pytest.approx(planner.flops)


def test_the_planner_draws_no_prediction_that_is_refused(ours):
    planner = BudgetPlanner(ours)
    assert planner.machine.value is MACHINES[0]  # what our own runs speak about
    planner.compute.value = 6 * ours.n_range[1] * ours.d_range[1]
    best = compute_optimal(ours.law, planner.flops)
    assert number(planner.text.value) == pytest.approx(best.loss, abs=6e-4)
    assert f"Verdict: <b>{best.verdict.level}" in planner.text.value
    planner.compute.value = 1e20
    assert "No prediction" in planner.text.value
    assert len(planner._here.get_xdata()) == 0
    axes = planner.canvas.figure.axes[0]
    beyond = next(line for line in axes.lines if line.get_label() == "and beyond")
    drawn = beyond.get_xdata()[np.isfinite(beyond.get_ydata())]
    assert 1e13 < drawn.max() < 1e18


def test_sliders_work_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from scaling_lib.show.sliders import Explorer, published_source\n"
        "print(Explorer([published_source()]).text.value)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nats per token" in done.stdout


def test_a_png_written_here_reads_as_the_same_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    Image.open(io.BytesIO(png(pixels))).verify()  # its checksums
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


# ---- laws that say nothing


def test_a_law_that_is_flat_in_size_has_no_budget_to_split(make_run: Callable[..., Run]) -> None:
    explorer = Explorer([grid(make_run, lambda n, d: 1.8 + 300 / d**0.45, 0.002, 3)])
    assert explorer.by.disabled
    assert "lies beyond the sliders" in explorer.text.value
    explorer.reset.click()
    assert explorer.by.value == "nd"


def test_the_planner_of_a_refused_law_says_so(make_run: Callable[..., Run]) -> None:
    nothing = grid(make_run, lambda n, d: 4.0, 0.0025, 4)
    assert "No prediction" in BudgetPlanner(nothing).text.value


def test_a_reading_is_of_the_value_that_is_set_not_of_the_one_asked_for(theirs):
    explorer, planner = Explorer([theirs]), BudgetPlanner(theirs)
    explorer.by.value = "budget"
    explorer.c.value = 10.0**explorer.c.max  # its best N and D lie beyond the sliders: it stops before
    planner.money.value = 1e9  # more hours than the slider has
    for one in (explorer.c, planner.money):
        beside = one.row.children[1]
        assert float(beside.value.replace(",", "")) == pytest.approx(one.value, rel=0.01)
    assert explorer.c.value < 0.9 * 10.0**explorer.c.max
    assert planner.money.value < 1e9
    planner.machine.value, planner.hours.value = MACHINES[0], 0.01
    assert "0.0005 dollars" in planner.text.value


def test_a_published_law_says_how_far_it_reaches(theirs):
    explorer = Explorer([theirs])
    explorer.n.value, explorer.d.value = 1e9, 2e10
    assert "Verdict: <b>published</b>" in explorer.text.value
    explorer.n.value = 10.0**explorer.n.max
    assert "No prediction: out of range" in explorer.text.value
    assert theirs.verdict(10.0**explorer.n.max, 2e10).refused


@pytest.mark.parametrize(("e", "a", "alpha"), [(1.711, 3e11, 2.5), (1.0, 6.0, 0.05)])
def test_by_hand_reaches_every_best_fit(e, a, alpha):
    n = np.geomspace(2e4, 2e6, 8)
    panel = LawByHand(n, e + a / n**alpha)
    panel.show_best.click()
    assert panel.objective == pytest.approx(panel.best.cost, abs=1e-10)


def test_another_draw_of_the_noise_moves_the_points_and_reset_brings_the_first_back(theirs):
    lab = IsoFlopLab(theirs.law)
    lab.noise.value = 0.5
    first = lab.error
    lab.redraw.click()
    assert lab.error != first
    lab.reset.click()
    lab.noise.value = 0.5
    assert lab.error == first

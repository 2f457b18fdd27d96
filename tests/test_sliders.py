"""Sliders: what is drawn and said follows what is set, whatever order it is set in, and nothing needs torch."""

from __future__ import annotations

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
from scaling_lib.fit.isoflops import isoflop
from scaling_lib.runs import Run
from scaling_lib.show.sliders import BudgetPlanner, Explorer, IsoFlopLab, LawByHand, our_source, published_source
from scaling_lib.show.sliders.planner import MACHINES


def size_of(d: int) -> int:
    return 24 * d**2 + 5 * d


@pytest.fixture(scope="module")
def ours(make_run: Callable[..., Run]):
    noise = np.random.default_rng(2).normal(0, 0.002, (6, 4))
    return our_source(
        [
            make_run(
                "wsd", d_model=d, steps=s, loss=(1.8 + 30 / size_of(d) ** 0.3 + 300 / (s * 1024) ** 0.45) * (1 + e)
            )
            for d, row in zip((16, 32, 48, 64, 96, 128), noise.tolist(), strict=True)
            for s, e in zip((50, 100, 200, 400), row, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def theirs():
    return published_source("chinchilla-epoch")


def picture(canvas) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(canvas.image.value)))


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
        for parts, at in zip(explorer._parts, (n, d), strict=True):
            assert parts["here"].get_xdata()[0] == at
    explorer.level.value = 0.5
    low, high = theirs.law.interval(1.75e11, 3e11, level=0.5)
    assert f"50% interval of the law's mean {low:.3f} to {high:.3f}" in explorer.text.value


def test_the_curves_pass_through_the_marker_and_are_dashed_beyond_the_runs(theirs):
    explorer = Explorer([theirs])
    explorer.n.value, explorer.d.value = 1e11, 1e12
    for parts, ran, here in zip(explorer._parts, (theirs.n_range, theirs.d_range), (1e11, 1e12), strict=True):
        x = parts["inside"].get_xdata()
        solid, dashed = parts["inside"].get_ydata(), parts["outside"].get_ydata()
        assert np.all(np.isfinite(solid) == ((x >= ran[0]) & (x <= ran[1])))
        assert np.all(np.isfinite(solid) != np.isfinite(dashed))
        both = np.where(np.isfinite(solid), solid, dashed)
        assert np.interp(np.log(here), np.log(x), both) == pytest.approx(theirs.law.predict(1e11, 1e12), rel=0.01)


def test_a_prediction_that_the_verdict_refuses_is_not_quoted(ours):
    explorer = Explorer([ours])
    explorer.jump.value = "GPT-4 (rumour)"
    assert explorer.n.value == pytest.approx(1.8e12)
    assert "No prediction" in explorer.text.value
    assert "nats per token</b>" not in explorer.text.value
    assert "decades in N beyond the runs" in explorer.text.value
    explorer.reset.click()
    assert explorer.n.value == pytest.approx(ours.n_range[1])
    assert explorer.jump.value == ""
    assert number(explorer.text.value) == pytest.approx(ours.law.predict(ours.n_range[1], ours.d_range[1]), abs=6e-4)


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


def test_laws_of_two_texts_never_share_an_axis(ours, theirs):
    explorer = Explorer([ours, theirs])
    assert ours.text in explorer.canvas.figure.get_suptitle()
    points = sum(len(line.get_xdata()) for line in explorer._axes[0].lines if line.get_marker() == "o")
    assert points >= len(ours.loss)
    explorer.law.value = theirs.title
    assert theirs.text in explorer.canvas.figure.get_suptitle()
    assert sum(len(line.get_xdata()) for line in explorer._axes[0].lines if line.get_marker() == "o") == 0


def test_a_law_without_a_covariance_has_no_band():
    kaplan = published_source("kaplan-joint")
    explorer = Explorer([kaplan])
    assert "no band can be drawn" in explorer.text.value
    assert all(not parts["band"].get_paths() for parts in explorer._parts)


def test_the_picture_is_drawn_anew_and_keeps_its_size(theirs):
    explorer = Explorer([theirs])
    first = picture(explorer.canvas)
    explorer.n.value = 1e7
    second = picture(explorer.canvas)
    assert first.shape == second.shape == (645, 1350, 3)
    changed = np.abs(first.astype(int) - second).max(axis=2) > 0
    assert 0.001 < changed.mean() < 0.2  # the marker, the curves: not the axes
    explorer.reset.click()
    np.testing.assert_array_equal(picture(explorer.canvas), first)


def test_every_slider_has_its_unit_a_tooltip_and_no_running_kernel_is_needed(ours, theirs):
    made = [Explorer([ours]), IsoFlopLab(theirs.law), BudgetPlanner(theirs), LawByHand(ours.n_params, ours.loss)]
    for thing in made:
        sliders = [w for w in thing.widget.children if "Slider" in type(w).__name__]
        assert sliders
        for slider in sliders:
            assert slider.tooltip, slider.description
        assert any("reset" in getattr(b, "description", "") for w in thing.widget.children
                   for b in (w, *getattr(w, "children", ())))  # fmt: skip
        assert not any(type(w).__name__ == "Output" for w in thing.widget.children)
        assert thing.canvas.image.tooltip  # what a screen reader says of the picture


@pytest.mark.parametrize("laws", [[], ["twice", "twice"]])
def test_laws_that_cannot_be_told_apart_are_refused(theirs, laws):
    with pytest.raises(InputError):
        Explorer([theirs for _ in laws])


def test_an_unknown_law_is_one_line():
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
    assert hand.objective == pytest.approx(hand.best.objective, rel=1e-6)
    assert hand.objective < before / 10
    assert "this is the best fit" in hand.text.value
    assert hand._residuals.get_ydata() == pytest.approx(100 * hand.best.residuals, abs=1e-6)
    for slider in (hand.floor, hand.height, hand.exponent):
        kept = slider.value
        slider.value = kept * 1.05
        assert hand.objective > hand.best.objective
        slider.value = kept
    hand.reset.click()
    assert hand.objective == pytest.approx(before)


def test_the_labs_numbers_are_those_of_the_fit():
    law = published.laws["chinchilla"]
    lab = IsoFlopLab(law)
    lab.offset.value, lab.width.value = 1.5, 16.0
    true = np.asarray(compute_optimal(law, np.logspace(17, 21, 5)).n_params)
    n = (true * 2**1.5)[:, None] * np.geomspace(1 / 16, 16, 15)
    c = np.broadcast_to(np.logspace(17, 21, 5)[:, None], n.shape)
    found = isoflop(n.ravel(), c.ravel(), law.predict(n, c / (6 * n)).ravel())
    assert f"C<sup>{found.a:.3f}</sup>; the truth" in lab.text.value
    assert lab._minima.get_xdata() == pytest.approx(found.n_opt[found.used])


def test_a_grid_that_misses_the_optimum_gives_no_exponent():
    lab = IsoFlopLab(published.laws["chinchilla"])
    lab.width.value, lab.offset.value = 1.5, 3.0
    assert "No exponent" in lab.text.value
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
    planner.machine.value = MACHINES[0]
    assert planner.price.value == MACHINES[0].dollars_per_hour
    planner.reset.click()
    assert planner.machine.value is MACHINES[1]


def test_sliders_work_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from scaling_lib.show.sliders import Explorer, published_source\n"
        "print(Explorer([published_source()]).text.value)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nats per token" in done.stdout

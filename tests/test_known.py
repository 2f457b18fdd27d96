"""Floors beside the truth: on made grids the joint law finds E, and a slice finds E plus what its data lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from scaling_lib.show.known import floor_report, known_floors, plot_floors

from scaling_lib.errors import InputError
from scaling_lib.runs import Run

mpl.use("agg")
E, A, ALPHA, B, BETA = 1.7, 300.0, 0.75, 3000.0, 0.7


@pytest.fixture
def grid(make_run: Callable[..., Run]) -> list[Run]:
    rng = np.random.default_rng(3)
    runs = []
    for d_model in (16, 32, 48, 64, 96):
        for steps in (100, 200, 400, 800):
            counts = make_run("wsd", d_model=d_model, steps=steps).counts
            loss = E + A / counts["n_params_non_embedding"] ** ALPHA + B / counts["n_tokens"] ** BETA
            run = make_run("wsd", d_model=d_model, steps=steps, loss=loss * (1 + 0.001 * rng.standard_normal()))
            runs.append(replace(run, corpus={**run.corpus, "entropy_rate": E}))
    return runs


def test_the_joint_law_finds_the_floor_and_a_slice_finds_that_of_its_data(grid: list[Run]) -> None:
    floors = known_floors(grid)
    assert [f.n_tokens for f in floors] == [102_400, 204_800, 409_600, 819_200, 0]
    joint = floors[-1]
    assert joint.holds
    assert joint.width < 0.1
    assert not joint.verdict.refused
    for f in floors[:-1]:
        assert f.fit.params["E"] == pytest.approx(E + B / f.n_tokens**BETA, abs=0.03)
    assert not floors[0].holds
    assert not floors[0].verdict.refused  # a slice cannot know what more data would bring


def test_report_and_figure_show_every_floor(grid: list[Run]) -> None:
    floors = known_floors(grid)
    lines = floor_report(floors).splitlines()
    assert len(lines) == 2 + len(floors)
    assert "1.700" in lines[0]
    assert lines[-1].endswith(floors[-1].verdict.level)
    axes = plot_floors(floors)
    told = [f for f in floors if not f.verdict.refused]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([f.fit.params["E"] for f in told])
    bars = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    left, right = axes.get_xlim()
    for (low, high), f in zip(bars, told, strict=True):  # whiskers end where the intervals do
        assert (low, high) == pytest.approx((max(f.low, left), min(f.high, right)))
    assert "nats per token" in axes.get_xlabel()


def test_a_text_of_unknown_entropy_is_refused(make_run: Callable[..., Run]) -> None:
    with pytest.raises(InputError, match="entropy of this text is not known"):
        known_floors([make_run("wsd")])

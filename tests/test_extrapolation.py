"""What a law says of the known models: numbers are the law's, refusals are said and not drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scaling_lib.runs import Run
from scaling_lib.show.extrapolation import known_models, mark_models, plot_at_models
from scaling_lib.show.sliders.sources import our_source, published_source


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def ours(make_run: Callable[..., Run]):
    noise = np.random.default_rng(3).normal(0, 0.002, (6, 4))
    return our_source(
        [
            make_run("wsd", d_model=d, steps=s, loss=(1.8 + 2 * (32 / d) ** 0.6 + (300 / s) ** 0.45) * (1 + e))
            for d, row in zip((16, 32, 48, 64, 96, 128), noise.tolist(), strict=True)
            for s, e in zip((50, 100, 200, 400), row, strict=True)
        ]
    )


def labelled(axes, name):
    return next(line for line in axes.lines if line.get_label() == name)


def test_a_law_without_a_covariance_has_no_interval():
    axes = plot_at_models(published_source("kaplan-joint"))
    assert labelled(axes, "models, at their own D").get_ydata()[0] == pytest.approx(1.66, abs=0.005)
    assert not any("interval" in str(c.get_label()) for c in axes.collections)


def test_our_law_says_and_draws_nothing_of_them(ours):
    axes = plot_at_models(ours)
    assert not any(line.get_label() == "models, at their own D" for line in axes.lines)
    drawn = labelled(axes, "and beyond")
    x = drawn.get_xdata()[np.isfinite(drawn.get_ydata())]
    assert x[0] == min(ours.n_range[1], ours.d_range[1] / 20)
    assert not ours.law.verdict(x[-1], 20 * x[-1]).refused
    assert ours.law.verdict(2 * x[-1], 40 * x[-1]).refused


def test_the_panel_is_solid_within_the_runs_and_marks_models_at_their_own_tokens():
    source = published_source()
    axes = plot_at_models(source)
    solid = labelled(axes, "law within it")
    x, y = (np.asarray(v)[np.isfinite(solid.get_ydata())] for v in solid.get_data())
    # Chinchilla's runs: up to 16 billion parameters, and from 5 billion tokens, which is 20 for each of 250 million
    assert (x[0], x[-1]) == (2.5e8, 1.6e10)
    assert y == pytest.approx(source.law.predict(x, 20 * x))
    marks = labelled(axes, "models, at their own D")
    models = known_models()
    assert list(marks.get_xdata()) == [m.n_params for m in models]
    # Epoch's printed constants give these two to the second digit.
    assert marks.get_ydata()[:2] == pytest.approx([2.01, 1.88], abs=0.005)
    assert marks.get_ydata() == pytest.approx([source.law.predict(m.n_params, m.n_tokens) for m in models])
    assert "20 tokens for each" in axes.get_xlabel()
    assert "MassiveText" in axes.get_title()


def test_names_of_models_that_are_close_stand_on_both_sides():
    axes = plt.subplots()[1]
    axes.set_xscale("log")
    mark_models(axes, known_models(), "D")
    sides = {text.get_text().strip(): text.get_ha() for text in axes.texts}
    assert sides == {"GPT-3 175B": "right", "GPT-4 (rumour)": "right", "Llama 3 405B": "left"}

"""Learning rates against closed forms at their corners, and in between."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_lib.config import TrainConfig
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.sweep.recipes import RECIPES, make_train_config

PEAK = 0.01


def rates(recipe: str, steps: int) -> list[float]:
    train = make_train_config(recipe, 64, steps, 1, lr=PEAK)
    return [learning_rate(s, train) for s in range(steps)]


def test_v2_is_linear_over_a_tenth_then_a_cosine():
    steps, warm = 3000, 300
    got = rates("v2", steps)
    assert got[0] == pytest.approx(PEAK / warm)  # never zero: a step at rate 0 would be wasted
    assert got[warm - 1] == pytest.approx(PEAK)
    assert got[warm] == pytest.approx(PEAK)  # progress 0
    for step in (warm, 1000, 1650, 2999):
        progress = (step - warm) / (steps - warm)
        assert got[step] == pytest.approx(PEAK * 0.5 * (1 + math.cos(math.pi * progress)))
    assert got[1650] == pytest.approx(PEAK / 2)  # half way down
    assert 0 < got[-1] < PEAK * 1e-5


def test_v1_is_constant_and_wsd_between_warm_up_and_the_last_fifth():
    assert set(rates("v1", 50)) == {PEAK}
    got = rates("wsd", 1000)
    assert got[99] == got[100] == got[799] == got[800] == pytest.approx(PEAK)
    assert got[900] == pytest.approx(PEAK / 2)
    assert got[-1] == pytest.approx(PEAK / 200)


@given(
    recipe=st.sampled_from(sorted(RECIPES)),
    steps=st.integers(1, 400),
)
def test_rates_stay_between_zero_and_the_peak_and_fall_once_only(recipe, steps):
    got = rates(recipe, steps)
    assert all(0 < r <= PEAK * (1 + 1e-12) for r in got)
    top = got.index(max(got))
    assert got[:top] == sorted(got[:top])
    assert all(a >= b - 1e-15 for a, b in zip(got[top:], got[top + 1 :], strict=False))


def test_wsd_runs_of_any_length_share_their_trunk():
    short, long = (TrainConfig("wsd", n, 1, PEAK, "wsd", warmup_steps=10, decay_steps=n // 5) for n in (100, 400))
    assert [learning_rate(s, short) for s in range(80)] == [learning_rate(s, long) for s in range(80)]

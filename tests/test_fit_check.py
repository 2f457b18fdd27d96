"""Arrays and options that people pass by mistake: one clear line each, and harmless kinds of number are taken."""

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import compute_optimal, envelope, fit_joint, fit_power_law, isoflop
from scaling_lib.fit.published import laws

N = np.geomspace(1e6, 1e9, 8)
LOSS = 1.7 + 300 / N**0.3
C = np.repeat([1e18, 1e19], 8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_power_law(np.ma.masked_array(N, mask=[0] * 7 + [1]), LOSS), r"N\[7\] is masked"),
        (lambda: fit_power_law(N, np.ma.masked_invalid([*LOSS[:7], np.nan])), r"loss\[7\] is masked"),
        (lambda: fit_power_law(N, LOSS, groups=3), "groups=3 is no list"),
        (lambda: fit_power_law(N, LOSS, seed=-1), "seed=-1"),
        (lambda: fit_power_law(N, LOSS, seed=0.5), "seed=0.5"),
        (lambda: fit_power_law(N, LOSS).interval(1e9, level=np.float32(1.5)), "level="),
        (lambda: fit_power_law(N, LOSS).interval(1e9, level="0.9"), "level="),
        (lambda: fit_power_law([], []), "N is empty"),
        (lambda: fit_joint([], [], []), "N is empty"),
        (lambda: isoflop([], [], []), "loss is empty"),
        (lambda: envelope([], [], []), "loss is empty"),
        (lambda: isoflop(np.tile(N, 2), C, np.tile(LOSS, 2), seed=-1), "seed=-1"),
        (lambda: compute_optimal(laws["chinchilla"], []), "flops is empty"),
        (lambda: compute_optimal(laws["chinchilla"], 1e21, seed=-1), "seed=-1"),
    ],
)
def test_what_is_no_input_is_one_line(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    fit = fit_power_law(N, LOSS * np.exp(0.01 * np.cos(np.arange(8))), seed=np.int64(1))
    assert fit.interval(1e9, level=np.float32(0.9)) == pytest.approx(fit.interval(1e9, level=0.9), rel=1e-6)
    assert fit_power_law(N, LOSS, objective="huber", delta=np.float32(0.01)).delta == pytest.approx(0.01)
    assert fit_power_law(np.ma.masked_array(N, mask=False), LOSS).n_points == 8

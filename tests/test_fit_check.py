"""Arrays and options that people pass by mistake: one clear line each, and harmless kinds of number are taken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import compute_optimal, envelope, fit_joint, fit_power_law, isoflop
from scaling_lib.fit.published import laws

N = np.geomspace(1e6, 1e9, 8)
LOSS = (1.7 + 300 / N**0.3) * np.exp(0.01 * np.cos(np.arange(8)))


def fit(x: Any = N, loss: Any = LOSS, **options: Any) -> Any:
    return fit_power_law(x, loss, **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit(N[:2], LOSS[:2]), "2 runs cannot determine the 3 parameters"),
        (lambda: fit(N, LOSS[:5]), "N 8, loss 5"),
        (lambda: fit([1e6, np.nan, 1e7, 1e8], LOSS[:4]), r"N\[1\] = nan"),
        (lambda: fit(N[:6], [3, 2, np.inf, 2, 2, 2]), r"loss\[2\] = inf"),
        (lambda: fit(N[:6], [3, 2, -2.5, 2, 2, 2]), r"loss\[2\] = -2.5"),
        (lambda: fit([0, 1, 2, 3], LOSS[:4]), r"N\[0\] = 0 "),
        (lambda: fit(["1e6", "1e7"], LOSS[:2]), r"N\[0\] = '1e6'"),
        (lambda: fit([1e6, None, 2e6], LOSS[:3]), r"N\[1\] = None"),
        (lambda: fit([[1e6, 2e6]], LOSS[:2]), "one-dimensional"),
        (lambda: fit(np.ma.masked_array(N, mask=[0] * 7 + [1])), r"N\[7\] is masked"),
        (lambda: fit([], []), "N is empty"),
        (lambda: fit(variable="C"), "variable='C'"),
        (lambda: fit(law="magic"), "law='magic'"),
        (lambda: fit(floor="none"), "floor='none'"),
        (lambda: fit(floor=-1.0), "floor=-1"),
        (lambda: fit(floor=float("nan")), "floor=nan"),
        (lambda: fit(objective="mse"), "objective='mse'"),
        (lambda: fit(objective="huber", delta=0.0), "delta=0.0"),
        (lambda: fit(groups=3), "groups=3"),
        (lambda: fit(groups=[1, 2]), "groups has 2 entries"),
        (lambda: fit(groups=[1] * 8), "one group only"),
        (lambda: fit(labels=["a"]), "labels has 1"),
        (lambda: fit(seed=-1), "seed=-1"),
        (lambda: fit(starts=0), "starts=0"),
        (lambda: fit(starts=[[1.0, 2.0]]), r"\(S, 3\)"),
        (lambda: fit(bootstrap=-3), "bootstrap=-3"),
        (lambda: fit(bootstrap=10, bootstrap_kind="magic"), "bootstrap_kind='magic'"),
        (lambda: fit(bootstrap=5, bootstrap_kind="wild", objective="huber"), "wild draws are sound for"),
        (lambda: fit(N[:3], LOSS[:3], bootstrap=10), "more runs than parameters"),
        (lambda: fit().interval(1e9, level=np.float32(1.5)), "level="),
        (lambda: fit().interval(1e9, level="90%"), "level='90%'"),
        (lambda: fit().interval(1e9, kind="median"), "kind='median'"),
        (lambda: fit().interval(1e9, method="magic"), "method='magic'"),
        (lambda: fit().interval(1e9, method="bootstrap"), "fit again with bootstrap"),
        (lambda: fit().predict(-1.0), "not above zero"),
        (lambda: fit().predict("big"), "not a number"),
        (lambda: fit().predict(1e9, 1e9), "expected 1"),
        (lambda: fit().parameter_interval("B"), "no parameter 'B'"),
        (lambda: fit_joint(N, N, LOSS, law="power_n"), "use fit_power_law"),
        (lambda: fit_joint(N, N, LOSS, law="muennighoff"), "unique_tokens"),
        (lambda: fit_joint(N, N[::-1], LOSS, fixed={"gamma": 1.0}), "no parameter 'gamma'"),
        (lambda: fit_joint(N, N[::-1], LOSS, fixed={"A": 1.0}), "A cannot be held"),
        (lambda: isoflop([], [], []), "loss is empty"),
        (lambda: envelope([], [], []), "loss is empty"),
        (lambda: isoflop(np.tile(N, 2), np.repeat([1e18, 1e19], 8), np.tile(LOSS, 2), seed=-1), "seed=-1"),
        (lambda: compute_optimal(laws["chinchilla"], []), "flops is empty"),
        (lambda: compute_optimal(laws["chinchilla"], 1e21, seed=-1), "seed=-1"),
    ],
)
def test_what_is_no_input_is_refused_in_one_line(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers_and_no_target_has_no_answer() -> None:
    found = fit(seed=np.int64(1), law="power")
    assert found.interval(1e9, level=np.float32(0.9)) == pytest.approx(found.interval(1e9, level=0.9), rel=1e-6)
    assert fit(objective="huber", delta=np.float32(0.01)).delta == pytest.approx(0.01)
    assert fit(np.ma.masked_array(N, mask=False)).n_points == 8
    assert found.predict(np.empty(0)).shape == found.interval(np.empty(0))[0].shape == (0,)

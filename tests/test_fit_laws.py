"""The laws against finite differences, published values and changes of unit."""

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit.laws import LAWS, get_law

FIVE = [1.7, 400, 500, 0.34, 0.3]
PARAMS = {
    "power_n": [1.7, 400, 0.34],
    "power_d": [1.7, 400, 0.34],
    "chinchilla": FIVE,
    "power_c": [1.7, 40, 0.1],
    "line": [30.0, 0.05, 0.04],
    "kaplan": [6.4e13, 1.8e13, 0.076, 0.103],
    "power_mean": [*FIVE, 1.4],
    "data_constrained": [1.8, 520, 1488, 0.35, 0.36, 5.3, 15.4],
    "over_training": [1.7, 100, 200, 0.15],
}


@pytest.mark.parametrize("name", sorted(LAWS))
def test_gradients_units_and_shapes(name: str) -> None:
    law, params, rng = LAWS[name], np.array(PARAMS[name]), np.random.default_rng(0)
    x = [np.exp(rng.uniform(np.log(1e7), np.log(1e10), 8)) for _ in law.variables]
    exact = law.gradient(params, *x)
    for i, p in enumerate(params):
        step = np.zeros_like(params)
        step[i] = 1e-5 * p
        numeric = (law.value(params + step, *x) - law.value(params - step, *x)) / (2 * step[i])
        np.testing.assert_allclose(exact[i], numeric, rtol=2e-6, atol=1e-9 * abs(exact[i]).max())
    working = law.gradient(params, *x, working=True)
    np.testing.assert_allclose(working, exact * np.where(law.logged, params, 1.0)[:, None], rtol=1e-12)
    moved = law.to_natural(law.to_units(law.to_working(params), (np.log(1e8),) * len(x), np.log(3.0)))
    np.testing.assert_allclose(law.value(moved, *x), 3.0 * law.value(params, *[v / 1e8 for v in x]), rtol=1e-12)
    batch = np.stack([params, params])
    assert law.value(batch, *x).shape == (2, 8)
    assert law.gradient(batch, *x).shape == (2, len(params), 8)
    assert law.value(params, *[float(v[0]) for v in x]) == pytest.approx(law.value(params, *x)[0])


def test_laws_that_contain_each_other_agree() -> None:
    n, d = np.geomspace(1e6, 1e10, 5), np.geomspace(1e8, 1e12, 5)

    def same(name: str, params: list[float], x: tuple[np.ndarray, ...], expected: np.ndarray) -> None:
        np.testing.assert_allclose(get_law(name).value(np.array(params), *x), expected, rtol=1e-12)

    sum_of_powers = 1.7 + 400 / n**0.34 + 500 / d**0.3
    same("chinchilla", FIVE, (n, d), sum_of_powers)
    same("power_mean", [*FIVE, 1.0], (n, d), sum_of_powers)
    same("data_constrained", [*FIVE, 1e4, 1e4], (1e3 + 0 * n, d, d), 1.7 + 400 / 1e3**0.34 + 500 / d**0.3)
    over = 1.7 + (50 * (d / n) ** 0.15 + 60 * (d / n) ** -0.15) * (6 * n * d) ** -0.15
    same("gadre", [1.7, 50.0, 60.0, 0.15], (n, d), over)
    infinite_data = get_law("kaplan").value(np.array(PARAMS["kaplan"]), 1e9, 1e38)
    assert infinite_data == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-9)


def test_what_is_no_law_or_no_argument_of_one_is_refused() -> None:
    for bad in ("chincilla", 3, None):
        with pytest.raises(InputError, match="choose one of chinchilla"):
            get_law(bad)  # type: ignore[arg-type]
    law = get_law("chinchilla")
    for x, words in (((1e6,), "expected 2"), ((-1.0, 1e9), r"N\[0\] = -1 is not above zero")):
        with pytest.raises(InputError, match=words):
            law.value(np.array(FIVE), *x)

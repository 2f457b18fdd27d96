"""The laws against finite differences, published values and changes of unit."""

from __future__ import annotations

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit.laws import LAWS, get_law

PARAMS = {
    "power_n": [1.7, 400, 0.34],
    "power_d": [1.7, 400, 0.34],
    "chinchilla": [1.7, 400, 500, 0.34, 0.3],
    "line": [30.0, 0.05, 0.04],
    "kaplan": [6.4e13, 1.8e13, 0.076, 0.103],
    "power_mean": [1.7, 400, 500, 0.34, 0.3, 1.4],
    "data_constrained": [1.8, 520, 1488, 0.35, 0.36, 5.3, 15.4],
    "over_training": [1.7, 100, 200, 0.15],
    "broken_n": [1.7, 40, 0.2, 0.1, 1e8, 0.7],
    "broken_d": [1.7, 40, 0.2, 0.1, 1e8, 0.7],
}


@pytest.fixture(params=sorted(LAWS))
def case(request: pytest.FixtureRequest):
    law = LAWS[request.param]
    rng = np.random.default_rng(0)
    x = [np.exp(rng.uniform(np.log(1e7), np.log(1e10), 8)) for _ in law.variables]
    return law, np.array(PARAMS[request.param]), x


def test_gradient_is_the_derivative_in_both_parametrisations(case):
    law, params, x = case
    exact = law.gradient(params, *x)
    for i, p in enumerate(params):
        step = np.zeros_like(params)
        step[i] = 1e-5 * p
        numeric = (law.value(params + step, *x) - law.value(params - step, *x)) / (2 * step[i])
        np.testing.assert_allclose(exact[i], numeric, rtol=2e-6, atol=1e-9 * abs(exact[i]).max())
    working = law.gradient(params, *x, working=True)
    np.testing.assert_allclose(working, exact * np.where(law.logged, params, 1.0)[:, None], rtol=1e-12)


def test_change_of_units_keeps_the_loss(case):
    law, params, x = case
    moved = law.to_natural(law.to_units(law.to_working(params), (np.log(1e8),) * len(x), np.log(3.0)))
    np.testing.assert_allclose(law.value(moved, *x), 3.0 * law.value(params, *[v / 1e8 for v in x]), rtol=1e-12)


def test_shapes_and_names(case):
    law, params, x = case
    batch = np.stack([params, params])
    assert law.value(batch, *x).shape == (2, 8)
    assert law.value(params, *[v.reshape(2, 4) for v in x]).shape == (2, 4)
    assert law.gradient(batch, *x).shape == (2, len(params), 8)
    assert law.value(params, *[float(v[0]) for v in x]) == pytest.approx(law.value(params, *x)[0])
    k = law.n_params
    assert k == len(law.logged) == len(law.bounds) == len(law.units)
    assert law.source
    assert law.formula.startswith("L = ")
    assert set(law.nonlinear) <= set(law.param_names)


def test_data_constrained_law_gives_the_published_values():
    law = get_law("muennighoff")
    params = np.array(
        [np.exp(0.6254804), np.exp(6.255414), np.exp(7.3049974), 0.3526596, 0.3526596, 5.309743, 15.387756]
    )
    assert law.value(params, 6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, abs=1e-9)
    assert law.value(params, 8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, abs=1e-9)


def test_laws_that_contain_each_other_agree():
    n, d = np.geomspace(1e6, 1e10, 5), np.geomspace(1e8, 1e12, 5)
    five = np.array([1.7, 400.0, 500.0, 0.34, 0.3])
    chinchilla = get_law("chinchilla").value(five, n, d)
    np.testing.assert_allclose(get_law("power_mean").value(np.append(five, 1.0), n, d), chinchilla, rtol=1e-12)
    unique = get_law("data_constrained").value(np.concatenate([five, [1e4, 1e4]]), 1e3 + 0 * n, d, d)
    np.testing.assert_allclose(unique, get_law("chinchilla").value(five, 1e3 + 0 * n, d), rtol=1e-12)
    eta = 0.15
    over = get_law("gadre").value(np.array([1.7, 50.0, 60.0, eta]), n, d)
    np.testing.assert_allclose(
        over, 1.7 + (50 * (d / n) ** eta + 60 * (d / n) ** -eta) * (6 * n * d) ** -eta, rtol=1e-12
    )
    plain = get_law("power_n").value(np.array([1.7, 40.0, 0.2]), n)
    np.testing.assert_allclose(get_law("broken_n").value(np.array([1.7, 40, 0.2, 0.0, 1e8, 0.7]), n), plain, rtol=1e-12)


def test_kaplan_law_at_infinite_data_is_the_law_in_n():
    law = get_law("kaplan")
    value = law.value(np.array([6.4e13, 1.8e13, 0.076, 0.103]), 1e9, 1e38)
    assert value == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-9)


@pytest.mark.parametrize("bad", ["chincilla", 3, None])
def test_unknown_law_is_refused_with_the_list(bad):
    with pytest.raises(InputError, match="choose one of broken_d"):
        get_law(bad)


def test_bad_arguments_are_refused():
    law = get_law("chinchilla")
    with pytest.raises(InputError, match="takes 2"):
        law.value(np.array(PARAMS["chinchilla"]), 1e6)
    with pytest.raises(InputError, match="N must be finite"):
        law.value(np.array(PARAMS["chinchilla"]), -1.0, 1e9)

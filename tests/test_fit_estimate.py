"""Fits against SciPy, published optima, and known truths."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from scaling_lib.fit import fit_joint, fit_law, fit_power_law
from scaling_lib.fit.laws import LAWS

# Published: options, how many points, E A B alpha beta, upper limit of the objective that the printed digits allow.
EPOCH = [
    ({}, 240, (1.81722, 477.83, 2143.4, 0.34731, 0.36717), 1.018275e-3),
    ({"delta": 1e-6}, 240, (1.81684, 481.93, 2085.0, 0.34780, 0.36584), 1.12943e-6),
    ({"objective": "log_mse"}, 240, (1.86455, 593.3, 4875.6, 0.36025, 0.40588), 5.730945e-3),
    ({}, 245, (1.89134, 495.7, 12845.6, 0.34931, 0.45305), 1.826015e-3),
]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def epoch_table(points: int = 240) -> Arrays:
    """N, D and loss of Epoch's reconstruction; skips where the copy is absent."""
    folder = os.environ.get("SCALING_LIB_DATA")
    path = Path(folder or "") / "chinchilla_epoch.csv"
    if not folder or not path.is_file():
        pytest.skip("SCALING_LIB_DATA has no chinchilla_epoch.csv: the published optima are not checked, only SciPy's")
    with path.open(encoding="utf-8") as handle:
        rows = [[float(r[k]) for k in ("Model Size", "Training FLOP", "loss")] for r in csv.DictReader(handle)]
    n, flops, loss = np.array(rows).T
    keep = loss < np.sort(loss)[-5] if points == 240 else np.ones(len(loss), dtype=bool)
    assert keep.sum() == points
    return n[keep], (flops / (6.0 * n))[keep], loss[keep]


def sweep(seed: int = 0, noise: float = 0.006) -> Arrays:
    """A generated table of the same design: IsoFLOP slices, heavy-tailed noise."""
    rng = np.random.default_rng(seed)
    flops = np.repeat(np.geomspace(6e18, 3e21, 9), 12)
    n = np.sqrt(flops / 120.0) * np.exp(rng.uniform(-1.5, 1.5, len(flops)))
    d = flops / (6.0 * n)
    loss = 1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658
    return n, d, loss * np.exp(noise * 0.6 * rng.standard_t(3, len(flops)))


def huber_sum(r: np.ndarray, delta: float) -> float:
    size = np.abs(r)
    return float(np.sum(np.where(size <= delta, 0.5 * r**2, delta * (size - 0.5 * delta))))


@pytest.mark.parametrize(("options", "points", "expected", "limit"), EPOCH)
def test_published_optima_are_reached(
    options: dict[str, Any], points: int, expected: tuple[float, ...], limit: float
) -> None:
    fit = fit_joint(*epoch_table(points), **options)
    assert fit.success
    np.testing.assert_allclose(fit.values, expected, rtol=5e-4)
    assert fit.cost <= limit


def test_least_absolute_deviation_reaches_the_published_sum() -> None:
    fit = fit_joint(*epoch_table(), objective="lad")
    assert fit.cost == pytest.approx(np.abs(fit.residuals).sum())
    assert fit.cost <= 1.129495
    assert np.sum(np.abs(fit.residuals) < 1e-6) == 5  # it passes through as many runs as it has parameters


@pytest.mark.parametrize("seed", [0, 1])
def test_huber_optimum_against_scipy_from_many_starts(seed: int) -> None:
    n, d, loss = sweep(seed)
    fit = fit_joint(n, d, loss)
    assert fit.success

    def cost(p: np.ndarray) -> float:
        log_model = np.logaddexp(np.logaddexp(p[0], p[1] - p[3] * np.log(n)), p[2] - p[4] * np.log(d))
        return 1e3 * huber_sum(np.log(loss) - log_model, 1e-3)

    best = np.inf
    for start in ([0.5, 6.0, 7.0, 0.35, 0.35], [0.6, 7.0, 9.0, 0.4, 0.45]):
        first = optimize.minimize(cost, start, method="L-BFGS-B", options={"maxiter": 2000})
        best = min(best, optimize.minimize(cost, first.x, method="Nelder-Mead", options={"maxiter": 4000}).fun)
    assert fit.cost <= best / 1e3 * (1 + 1e-7)
    assert huber_sum(fit.residuals, 1e-3) == pytest.approx(fit.cost, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("kaplan", [6.4e13, 1.8e13, 0.076, 0.103]),
        ("power_mean", [1.7, 400, 500, 0.34, 0.3, 1.7]),
        ("over_training", [1.7, 140, 190, 0.15]),
        ("power_d", [1.7, 400, 0.34]),
        ("data_constrained", [1.8, 520.0, 1488.0, 0.35, 0.36, 5.3, 15.4]),
    ],
)
def test_every_law_is_found_again_without_noise(name: str, truth: list[float]) -> None:
    law = LAWS[name]
    axes = {
        1: [np.geomspace(1e4, 1e10, 25)],
        2: [np.geomspace(1e6, 1e10, 7), np.geomspace(1e8, 1e12, 7)],
        3: [np.geomspace(1e7, 5e9, 6), np.geomspace(1e9, 3e11, 6), np.array([1e9, 2e10, 1e11])],
    }[len(law.variables)]
    x = [v.ravel() for v in np.meshgrid(*axes)]
    fit = fit_law(law, x, law.value(np.array(truth, dtype=float), *x))
    np.testing.assert_allclose(fit.values, truth, rtol=1e-3)
    assert fit.cost < 1e-13


@pytest.mark.parametrize("floor", ["free", 0.0, 1.5])
def test_power_law_and_its_covariance_against_scipy(floor: str | float) -> None:
    x = np.geomspace(1e6, 1e9, 14)
    loss = (1.7 + 400 / x**0.34) * np.exp(np.random.default_rng(3).normal(0, 0.01, 14))
    fit = fit_power_law(x, loss, floor=floor)
    free = floor == "free"

    def log_model(x: np.ndarray, *p: float) -> np.ndarray:
        held, a, alpha = p if free else (floor, *p)
        return np.log(held + np.exp(a - alpha * np.log(x)))

    start = [1.5, 6.0, 0.34] if free else [5.0, 0.2]
    best, cov = optimize.curve_fit(log_model, x, np.log(loss), p0=start, maxfev=20000)
    found = [fit.params["E"], np.log(fit.params["A"]), fit.params["alpha"]][0 if free else 1 :]
    error = [fit.stderr["E"], fit.stderr["A"] / fit.params["A"], fit.stderr["alpha"]][0 if free else 1 :]
    np.testing.assert_allclose(found, best, rtol=1e-5)
    np.testing.assert_allclose(error, np.sqrt(np.diag(cov)), rtol=1e-3)
    if not free:
        assert (fit.params["E"], fit.stderr["E"], fit.dof) == (floor, 0.0, 12)


def test_one_outlier_moves_least_squares_and_not_huber() -> None:
    n, d, loss = sweep(noise=0.002)
    clean = fit_joint(n, d, loss, law="chinchilla").predict(1e11, 1e12)
    loss[7] *= 2.0
    assert fit_joint(n, d, loss, law="chinchilla").predict(1e11, 1e12) == pytest.approx(clean, rel=0.001)
    assert abs(fit_joint(n, d, loss, law="chinchilla", objective="log_mse").predict(1e11, 1e12) / clean - 1) > 0.005


def test_units_of_x_and_of_the_loss_do_not_matter() -> None:
    n, d, loss = sweep()
    plain, moved = fit_joint(n, d, loss), fit_joint(n / 1e6, d / 1e9, loss * 1.4427)
    assert moved.predict(1e5, 1e3) == pytest.approx(1.4427 * plain.predict(1e11, 1e12), rel=1e-6)
    assert moved.params["alpha"] == pytest.approx(plain.params["alpha"], rel=1e-4)
    assert moved.verdict(1e5, 1e3).level == plain.verdict(1e11, 1e12).level


def test_given_starts_and_their_number_lead_to_one_optimum() -> None:
    """The 4,500 starts of Hoffmann et al. 2022: ln E from -1 to 1, ln A, ln B from 0 to 25, exponents from 0 to 2."""
    axes = [np.linspace(*ends) for ends in ((-1, 1, 5), (0, 25, 6), (0, 25, 6), (0, 2, 5), (0, 2, 5))]
    grid = np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)
    grid[:, :3] = np.exp(grid[:, :3])
    few, many, given = (fit_joint(*sweep(), starts=s) for s in (4, 300, grid[::9]))
    assert few.cost == pytest.approx(many.cost, rel=1e-8) == given.cost
    assert given.diagnostics["certificate"]["starts"] == 500

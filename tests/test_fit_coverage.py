"""Coverage on ladders of a known law: how often intervals hold, and the mistake of ignoring clusters."""

from __future__ import annotations

import numpy as np
import pytest

from scaling_lib.fit import fit_power_law

SIZES = np.repeat(np.geomspace(1e6, 1e9, 8), 6)
CODES = np.repeat(np.arange(8), 6)
E, FAR = 1.7, 30.0


def law(n: np.ndarray) -> np.ndarray:
    return E + 400 / n**0.34


def shares(groups: bool) -> np.ndarray:
    """Of 80 sweeps whose sizes share noise: how often E, the law's mean at the largest size and far out hold, and the
    median width of the mean's interval at the largest size.
    """
    rng, rows = np.random.default_rng(0), []
    at = np.array([1.0, FAR]) * SIZES.max()
    for _ in range(80):
        loss = law(SIZES) * np.exp(rng.normal(0, 0.002, 48) + rng.normal(0, 0.005, 8)[CODES])
        fit = fit_power_law(SIZES, loss, groups=CODES if groups else None)
        (e0, e1), (low, high) = fit.parameter_interval("E"), fit.interval(at)
        rows.append((e0 <= E <= e1, *((low <= law(at)) & (law(at) <= high)), high[0] - low[0]))
    *held, width = np.array(rows, dtype=float).T
    return np.array([*np.mean(held, axis=1), np.median(width)])


@pytest.mark.slow
def test_nominal_intervals_hold_and_ignored_clusters_break_them() -> None:
    """At 90% and 80 draws the share lies above 77.5% but for one study in a thousand.

    Far beyond the runs the ignored clusters do not show in the law's interval: the sizes' common errors look like a
    bend of the law, for which the interval is widened. They show where there is no such allowance: in the floor, and
    in the width at the largest size.
    """
    told, ignored = shares(True), shares(False)
    assert min(told[:3]) > 0.775
    assert ignored[0] < 0.65
    assert ignored[1] < told[1]
    assert ignored[3] < 0.6 * told[3]

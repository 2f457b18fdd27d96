"""Coverage on ladders of a known law: how often intervals hold, and the mistake of ignoring clusters."""

from __future__ import annotations

import numpy as np
import pytest

from scaling_lib.fit import fit_power_law

SIZES = np.repeat(np.geomspace(1e6, 1e9, 8), 6)
CODES = np.repeat(np.arange(8), 6)
E, FAR = 1.7, 30.0


def law(n: np.ndarray | float) -> np.ndarray | float:
    return E + 400 / n**0.34


def shares(groups: bool, beyond: float) -> tuple[float, float, float]:
    """Of 80 sweeps whose sizes share noise: how often E and the law's mean hold, and the mean's median width."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(80):
        loss = law(SIZES) * np.exp(rng.normal(0, 0.002, 48) + rng.normal(0, 0.005, 8)[CODES])
        fit = fit_power_law(SIZES, loss, groups=CODES if groups else None)
        at = beyond * SIZES.max()
        (e0, e1), (m0, m1) = fit.parameter_interval("E"), fit.interval(at)
        rows.append((e0 <= E <= e1, m0 <= law(at) <= m1, m1 - m0))
    held, mean, width = np.array(rows, dtype=float).T
    return float(held.mean()), float(mean.mean()), float(np.median(width))


@pytest.mark.slow
def test_nominal_intervals_hold_and_ignored_clusters_break_them() -> None:
    """At 90% and 80 draws the share lies above 77.5% but for one study in a thousand.

    Far beyond the runs the ignored clusters do not show in the law's interval: the sizes' common errors look like a
    bend of the law, for which the interval is widened. They show where there is no such allowance: in the floor, and
    in the width at the largest size.
    """
    assert shares(True, FAR)[1] > 0.775
    told, ignored = shares(True, 1.0), shares(False, 1.0)
    assert min(told[:2]) > 0.775
    assert ignored[0] < 0.65
    assert ignored[1] < told[1]
    assert ignored[2] < 0.6 * told[2]

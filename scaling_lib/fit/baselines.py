"""What anybody could say without a law: a straight line in the logarithms, and the nearest trained run."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from scaling_lib.fit.forms import Array

LINE, NEAREST = "straight line in the logarithms", "nearest trained run"


def line(x: tuple[Array, ...], loss: Array, to: tuple[Array, ...]) -> Array:
    """Losses (m,) at ``to`` by least squares of ln L on the logarithms of ``x``, each (n,)."""
    centre = [np.log(v).mean() for v in x]
    design, there = (
        np.column_stack([np.ones(len(v[0])), *[np.log(a) - c for a, c in zip(v, centre, strict=True)]]) for v in (x, to)
    )
    return np.exp(there @ np.linalg.lstsq(design, np.log(loss), rcond=None)[0])


def nearest(x: tuple[Array, ...], loss: Array, to: tuple[Array, ...]) -> Array:
    """Loss (m,) of the run whose variables are nearest in the logarithms."""
    return loss[cKDTree(np.log(np.stack(x, axis=1))).query(np.log(np.stack(to, axis=1)))[1]]


def spacing(x: tuple[Array, ...], loss: Array, level: float) -> float:
    """Quantile ``level`` of how far a run's log loss lies from that of its own nearest neighbour."""
    points = np.log(np.stack(x, axis=1))
    neighbour = cKDTree(points).query(points, k=2)[1][:, 1]
    return float(np.quantile(np.abs(np.log(loss / loss[neighbour])), level))

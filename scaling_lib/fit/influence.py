"""What the answer would be without each run: the jackknife of a fit, solved as one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit import setup as setups
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array

MOST_RUNS = 2000


@dataclass(frozen=True)
class Influence:
    """The fit without each run.

    params : (n, k) natural parameters without run i. prediction : (n,) at the target without it. change : (n,) its
    relative change. largest : index of the run that moves the prediction most.
    """

    params: Array
    prediction: Array
    change: Array
    largest: int


def leave_one_out(fit: Fitted, *target: Any) -> Influence:
    """Fit again without each run and predict at one target (the largest run's place without one).

    Raises
    ------
    InputError
        More than 2,000 runs, no run to spare, or a target that is not one point.
    """
    n = fit.n_points
    if n > MOST_RUNS:
        raise InputError(
            f"leave_one_out fits {n:,} times: at most {MOST_RUNS:,} runs; use case bootstrap draws instead"
        )
    if fit.dof < 1:
        raise InputError("leave_one_out needs more runs than parameters")
    if target:
        point, shape = check.targets(fit.law.variables, target)
        if shape != ():
            raise InputError("leave_one_out takes one target, not an array")
    else:
        point = tuple(np.array([fit.fit_range[v][1]]) for v in fit.law.variables)
    work = fit.work
    starts = np.concatenate([fit.theta[None, :], setups.seeds(work, 4)])
    theta, _, _ = setups.descend(work, starts, np.broadcast_to(work.y, (n, n)), weight=1.0 - np.eye(n), keep=2)
    params = work.natural(theta)
    prediction = fit.law.value(params, *point)[:, 0]
    change = prediction / fit.law.value(fit.values, *point) - 1.0
    return Influence(params, prediction, change, int(np.argmax(np.abs(change))))

"""Fit a law to runs: `fit_power_law` and `fit_joint`, by two routes that share no start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit import setup as setups
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import POWER_D, POWER_N, Law, get_law
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.setup import Setup

OBJECTIVES = ("log_mse", "huber", "lad")
AGREE = 1e-6  # two routes agree when their objectives differ by no more than this fraction


def fit_power_law(
    x: Any,
    loss: Any,
    *,
    variable: str = "N",
    floor: str | float | None = "free",
    objective: str = "log_mse",
    delta: float = 1e-3,
    groups: Any = None,
    bootstrap: int = 0,
    bootstrap_kind: str = "auto",
    labels: Sequence[str] | None = None,
    seed: int = 0,
    notes: Mapping[str, str] | None = None,
    starts: int = 24,
) -> FitResult:
    """Fit L(x) = E + A / x^alpha (``variable="N"``) or E + B / x^beta (``"D"``).

    Parameters
    ----------
    x, loss : (n,) model sizes (parameters) or training tokens, and final losses (nats per token, or any
        one unit).
    floor : ``"free"`` estimates E >= 0; a number holds it there (a known entropy); None or 0 leaves it out.
    objective : ``"log_mse"`` (half the sum of squared log residuals), ``"huber"`` (sum of Huber terms with
        ``delta``) or ``"lad"`` (sum of absolute log residuals).
    groups : (n,) labels of runs that share a trunk, a seed or a budget, and with it part of their noise.
    bootstrap : number of draws; ``bootstrap_kind`` is ``"auto"``, ``"parametric"``, ``"residual"``,
        ``"case"`` or ``"wild"`` (least squares only).
    labels : (n,) names of the runs, for messages. notes : lines for the summary, such as {"N": "non-embedding"}.
    starts : starting points of the first route.

    Returns
    -------
    FitResult. Its ``verdict(target)`` says whether the data can bear a prediction there.

    Raises
    ------
    InputError
        Arrays that are not positive finite numbers of one length, or fewer runs than free parameters.

    Examples
    --------
    >>> fit = fit_power_law([1e6, 3e6, 1e7, 3e7, 1e8, 3e8], [5.2, 4.6, 4.1, 3.7, 3.4, 3.1])
    >>> fit.verdict(1e9).level
    'supported'
    """
    variable = check.choice("variable", variable, ("N", "D"))
    law = POWER_N if variable == "N" else POWER_D
    fixed = {} if floor == "free" else {"E": _floor(floor)}
    return fit_law(
        law,
        (x,),
        loss,
        objective=objective,
        delta=delta,
        fixed=fixed,
        groups=groups,
        bootstrap=bootstrap,
        bootstrap_kind=bootstrap_kind,
        labels=labels,
        seed=seed,
        notes=notes,
        starts=starts,
    )


def _floor(floor: str | float | None) -> float:
    if floor is None:
        return 0.0
    try:
        value = float(floor)
    except (TypeError, ValueError):
        raise InputError(f"floor={floor!r} is unknown: use 'free', None or a number") from None
    if not np.isfinite(value) or value < 0:
        raise InputError(f"floor={value:g} must be a loss of 0 or more")
    return value


def fit_joint(
    n_params: Any,
    n_tokens: Any,
    loss: Any,
    *,
    law: str | Law = "chinchilla",
    unique_tokens: Any = None,
    objective: str = "huber",
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    groups: Any = None,
    bootstrap: int = 0,
    bootstrap_kind: str = "auto",
    labels: Sequence[str] | None = None,
    seed: int = 0,
    notes: Mapping[str, str] | None = None,
    starts: int | Any = 48,
) -> FitResult:
    """Fit a law in model size and tokens; by default Chinchilla's, by its own objective.

    Parameters
    ----------
    n_params, n_tokens, loss : (n,) parameters, training tokens, final losses.
    law : ``"chinchilla"``, ``"kaplan"``, ``"power_mean"``, ``"over_training"``, ``"data_constrained"``
        (which also needs ``unique_tokens``), or a `Law`.
    fixed : parameters held at a natural value: the floor, an exponent, q.
    starts : number of starting points of the first route, or an array (S, k) of natural parameters.
    The other arguments are those of `fit_power_law`; the default objective is the sum of Huber terms with
    delta 1e-3.

    Raises
    ------
    InputError
        As `fit_power_law`; an unknown law; a law of one variable.
    """
    chosen = get_law(law)
    if len(chosen.variables) == 1:
        raise InputError(f"law {chosen.name!r} has one variable: use fit_power_law or fit_law")
    x: tuple[Any, ...] = (n_params, n_tokens)
    if "U" in chosen.variables:
        if unique_tokens is None:
            raise InputError(f"law {chosen.name!r} needs unique_tokens, the number of distinct tokens of each run")
        x = (*x, unique_tokens)
    return fit_law(
        chosen,
        x,
        loss,
        objective=objective,
        delta=delta,
        fixed=fixed,
        groups=groups,
        bootstrap=bootstrap,
        bootstrap_kind=bootstrap_kind,
        labels=labels,
        seed=seed,
        notes=notes,
        starts=starts,
    )


def fit_law(
    law: str | Law,
    x: Sequence[Any],
    loss: Any,
    *,
    objective: str = "log_mse",
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    groups: Any = None,
    bootstrap: int = 0,
    bootstrap_kind: str = "auto",
    labels: Sequence[str] | None = None,
    seed: int = 0,
    notes: Mapping[str, str] | None = None,
    starts: int | Any = 48,
) -> FitResult:
    """Fit any law; ``x`` holds one array (n,) per variable. See `fit_power_law` and `fit_joint`."""
    from scaling_lib.fit import uncertainty

    law = get_law(law)
    data = check.columns((*law.variables, "loss"), (*x, loss))
    objective = check.choice("objective", objective, OBJECTIVES)
    threshold = _threshold(objective, delta)
    check.check_seed(seed)
    fixed = dict(fixed or {})
    arrays = tuple(data[v] for v in law.variables)
    n = len(data["loss"])
    work = setups.make(law, arrays, data["loss"], threshold, fixed)
    if n < work.n_free:
        raise InputError(f"{n} runs cannot determine the {work.n_free} parameters of {law.formula}: add runs or hold E")
    codes = check.group_codes(groups, n)
    if labels is not None and len(labels) != n:
        raise InputError(f"labels has {len(labels)} entries for {n} runs: pass one name per run")

    theta, cost, certificate = certify(work, starts)
    result = uncertainty.assemble(work, theta, cost, certificate, data, codes, objective, fixed, labels, notes)
    if bootstrap:
        result = uncertainty.add_draws(result, bootstrap, bootstrap_kind, seed)
    return result


def _threshold(objective: str, delta: float) -> float:
    if objective == "log_mse":
        return np.inf
    if objective == "lad":
        return setups.LAST_DELTA
    if not (isinstance(delta, Real) and setups.LAST_DELTA <= delta < np.inf):
        raise InputError(f"delta={delta!r} must be a number of at least {setups.LAST_DELTA:g} (or use objective='lad')")
    return float(delta)


def certify(work: Setup, starts: int | Any) -> tuple[Array, float, dict[str, object]]:
    """The best parameters by two routes that share no start, and whether the routes agree.

    Route 1 descends from many points. Route 2 walks a dense grid of exponents, solves for the linear
    parameters there (closed form, then descent with the exponents held), and frees everything at the
    grid's best points.
    """
    first = _starts(work, starts)
    y = work.y[None, :]
    theta1, cost1, done1 = setups.descend(work, first, y, keep=8)
    grid = exponent_grid(work)
    theta2, cost2, done2 = profile_route(work, grid)
    a, b = float(cost1[0]), float(cost2)
    best = theta1[0] if a <= b else theta2
    low = min(a, b)
    # Below this sum of residuals the routes differ by rounding (and by the last delta of the LAD objective).
    slack = 1e-9 * len(work.y) * min(work.delta, 1e-7)
    agree = abs(a - b) <= AGREE * low + slack
    return (
        best,
        low,
        {
            "multi_start": a,
            "profile": b,
            "agree": bool(agree),
            "converged": bool(done1[0] and done2),
            "starts": len(first),
            "grid": len(grid),
        },
    )


def _starts(work: Setup, starts: int | Any) -> Array:
    if isinstance(starts, int | np.integer):
        if starts < 1:
            raise InputError(f"starts={starts} must be 1 or more")
        return setups.seeds(work, int(starts))
    given = np.asarray(starts, dtype=float)
    k = work.law.n_params
    if given.ndim != 2 or given.shape[1] != k or not np.all(np.isfinite(given)):
        raise InputError(f"starts must be a number or an array (S, {k}) of natural parameters, got shape {given.shape}")
    return np.clip(np.where(work.free, work.scaled(given), work.held), work.lower, work.upper)


def exponent_grid(work: Setup) -> Array:
    """Grid of the law's exponents (G, k): other parameters stand at the seed box's centre."""
    law = work.law
    names = [n for n in law.nonlinear if work.free[law.param_names.index(n)]]
    centre = np.where(
        work.free, law.seed_point(np.full((1, law.n_params), 0.5), float(np.exp(work.y.min()))), work.held
    )
    if not names:
        return centre
    count = {1: 96, 2: 20}.get(len(names), 9)
    axes = []
    for name in names:
        i = law.param_names.index(name)
        low, high = max(work.lower[i], -1.0), min(work.upper[i], 2.0)
        axes.append(np.geomspace(0.01, high, count) if low > 0 else np.linspace(low, high, count))
    mesh = np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)
    out = np.repeat(centre, len(mesh), axis=0)
    for j, name in enumerate(names):
        out[:, law.param_names.index(name)] = mesh[:, j]
    return np.clip(_linear_start(work, out), work.lower, work.upper)


def _linear_start(work: Setup, grid: Array) -> Array:
    """Floor and amplitudes of an additive law at held exponents, by relative least squares: no start."""
    law = work.law
    amplitudes = [i for i, n in enumerate(law.param_names) if n in ("A", "B", "a", "b")]
    if law.name in ("kaplan", "power_mean", "data_constrained"):
        return grid
    unit = grid.copy()
    unit[:, amplitudes] = 0.0
    linear = [i for i in (0, *amplitudes) if work.free[i]]
    basis = law.core(unit, work.log_x)[1][:, linear, :] * np.exp(-work.y)  # (G, m, n)
    known = np.ones(len(work.y)) - (0.0 if work.free[0] else work.held[0]) * np.exp(-work.y)
    normal = basis @ basis.transpose(0, 2, 1)
    scale = np.sqrt(np.maximum(np.einsum("gii->gi", normal), 1e-280))
    normal = normal / (scale[:, :, None] * scale[:, None, :])
    normal[:, np.arange(len(linear)), np.arange(len(linear))] += 1e-10
    value = np.linalg.solve(normal, ((basis @ known) / scale)[:, :, None])[:, :, 0] / scale
    out = grid.copy()
    for j, i in enumerate(linear):
        out[:, i] = np.maximum(value[:, j], 0.0) if i == 0 else np.log(np.maximum(value[:, j], 1e-3))
    return out


def profile_route(work: Setup, grid: Array, *, polish: int = 6) -> tuple[Array, float, bool]:
    """Descend with exponents held, then free the best cells: (theta (k,), objective, converged)."""
    law = work.law
    held = np.array([n in law.nonlinear for n in law.param_names])
    y = work.y[None, :]
    plan = setups.stages(work.delta)
    partial = setups.minimise(work.problem(free=work.free & ~held, delta=plan[0]), grid, max_iter=40, tol=1e-4)
    order = np.argsort(partial.cost, kind="stable")[:polish]
    theta, cost, done = setups.descend(work, partial.theta[order], y, keep=polish)
    return theta[0], float(cost[0]), bool(done[0])

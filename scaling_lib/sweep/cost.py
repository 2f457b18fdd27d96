"""What a plan will cost on this machine: measured speed, expected time, and what a budget leaves of it."""

import datetime
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from scaling_lib.config import ModelConfig, RunConfig
from scaling_lib.counting import count_parameters, training_flops
from scaling_lib.errors import InputError
from scaling_lib.files import plainly
from scaling_lib.sweep.engines import in_workers
from scaling_lib.sweep.plan import Phase, Plan, make_plan

COMPILING_SECONDS = 15.0  # of a run whose step is compiled; the first of a process takes longer
COMPILED_SPEED = 1.3  # of a compiled step against the eager one that is timed; not yet measured on a quiet machine
STARTING_SECONDS = 6.0  # a worker process: torch loaded, the corpus opened


def calibrate(plan: Plan, budget_seconds: float = 10.0) -> dict[ModelConfig, float]:
    """Seconds per token of every model in the plan, measured on this machine by a few real steps.

    Measures the smallest, the middle and the largest model of each phase that can be measured in the time, in as
    many processes at once as the phase will have, and interpolates the rest in log-log. Costs about
    ``budget_seconds``, less for a small plan, and the start of the processes, which the sweep
    then uses again.
    """
    from scaling_lib.lm.runtime import ROUGH_FLOPS_PER_SECOND

    rough = sum(training_flops(c.model, c.n_tokens) for c in plan.cells) / ROUGH_FLOPS_PER_SECOND["cpu"]
    budget_seconds = min(budget_seconds, max(1.0, rough / 10))
    found: dict[ModelConfig, float] = {}
    for phase in plan.phases:
        models = {c.model: c for job in phase.jobs for c in job.cells}
        cells = sorted(models.values(), key=lambda c: training_flops(c.model, 1))
        x, y = _measure(phase, plan, cells, budget_seconds / len(plan.phases)).T
        for cell in cells:
            # Between those measured a straight line, beyond the last in proportion: the same FLOPs a second.
            at = math.log(training_flops(cell.model, 1))
            found[cell.model] = math.exp(np.interp(at, x, y) + max(0.0, at - x[-1]))
    return found


def _measure(phase: Phase, plan: Plan, cells: Sequence[RunConfig], budget: float) -> np.ndarray:
    """ln FLOPs per token and ln seconds per token of up to three models, cheapest first; float64 (n, 2)."""
    if plan.options.engine != "local" or phase.workers == 1:
        return time_models(cells, plan, phase.threads, budget)
    from joblib import delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # Side by side, as they will run: cores that share caches and memory are slower together than alone.
    task = delayed(time_models)(cells, plan, phase.threads, budget)
    try:
        results = in_workers([task] * phase.workers, phase.workers)
    except TerminatedWorkerError as error:
        raise InputError(
            f"a process was killed while {phase.workers} measured the speed (out of memory?); try --workers 1"
        ) from error
    return np.mean(results, axis=0)


def time_models(cells: Sequence[RunConfig], plan: Plan, threads: int, budget: float) -> np.ndarray:
    """The measurement in one process; see ``_measure``."""
    from scaling_lib.lm.speed import can_be_timed, seconds_per_token

    runtimes = {c: plan.options.runtime(c, compile=False, threads=threads or None) for c in cells}
    timed = [c for c in cells if can_be_timed(c, runtimes[c], budget / 3)] or list(cells[:1])
    chosen = [timed[index] for index in sorted({0, len(timed) // 2, len(timed) - 1})]
    return np.log([(training_flops(c.model, 1), seconds_per_token(c, runtimes[c], budget / 3)) for c in chosen])


def expected_seconds(
    plan: Plan, seconds_per_token: dict[ModelConfig, float], done: Collection[RunConfig] = ()
) -> float:
    """Wall time of the plan without the runs that are done: each free worker takes the next, largest job."""
    total = 0.0
    for phase in plan.phases:
        free_at = [0.0] * phase.workers
        for job in phase.jobs:
            todo = job.own_tokens(done)
            if not todo:
                continue
            compiled = plan.options.runtime(job.cells[-1]).compile
            speed, cost = (COMPILED_SPEED, COMPILING_SECONDS * len(todo)) if compiled else (1.0, 0.0)
            for cell, tokens in todo:
                eager = seconds_per_token[cell.model]
                cost += tokens * eager / speed + evaluation_seconds(cell, eager)
            free_at[free_at.index(min(free_at))] += cost
        total += max(free_at) + (STARTING_SECONDS if max(free_at) else 0.0)
    return total


def evaluation_seconds(cell: RunConfig, seconds_per_token: float) -> float:
    """The validation passes of one run: forward only, a third of a training step."""
    curve = min(8_192, cell.train.eval_tokens) * (2 + max(0.0, math.log2(cell.train.max_steps / 10)))
    return (cell.train.eval_tokens + curve) * seconds_per_token / 3


def within_budget(
    plan: Plan,
    seconds_per_token: dict[ModelConfig, float],
    done: Collection[RunConfig] = (),
    *,
    max_flops: float | None = None,
    max_seconds: float | None = None,
) -> tuple[Plan, list[RunConfig]]:
    """Leave out the most expensive runs until the rest fits the budget.

    ``max_flops`` is for all runs, those that are done too, so that a command repeats itself; ``max_seconds`` for
    what is still to be trained. Returns the plan that fits, and the runs left out, most expensive first; runs that
    are done stay.

    Raises
    ------
    InputError
        When not even the cheapest run fits.
    """
    done = set(done)
    dearest = sorted(plan.cells, key=lambda c: (c in done, -training_flops(c.model, c.n_tokens)))
    for n_cut, next_one in enumerate(dearest):
        found = make_plan(dearest[n_cut:], plan.options) if n_cut else plan
        over_flops = max_flops is not None and found.flops > max_flops
        fits = max_seconds is None or expected_seconds(found, seconds_per_token, done) <= max_seconds
        if (fits and not over_flops) or next_one in done:  # or nothing is left that could be left out
            return found, dearest[:n_cut]
    budget = f"{max_flops:.2g} FLOPs" if over_flops else f"{(max_seconds or 0) / 3600:.2g} hours"
    cheapest = min(plan.cells, key=lambda c: training_flops(c.model, c.n_tokens))
    raise InputError(
        f"not even the cheapest run ({cheapest.train.recipe} {cheapest.model.name}, "
        f"{training_flops(cheapest.model, cheapest.n_tokens):.2g} FLOPs) fits a budget of {budget}; "
        "raise it, or use --max-steps for shorter runs"
    )


def log_timing(
    folder: Path, plan: Plan, done: Collection[RunConfig], *, runs: int, expected: float, seconds: float
) -> None:
    """Add a line to ``folder/timings.csv``: how many runs a call has trained, how long that should take and took.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    path = folder / "timings.csv"
    largest = max(count_parameters(c.model).total for c in plan.cells)
    flops = sum(training_flops(c.model, tokens) for job in plan.jobs for c, tokens in job.own_tokens(done))
    line = f"{datetime.date.today()},{runs},{largest},{flops:.4g},{expected:.1f},{seconds:.1f}\n"
    header = "" if path.exists() else "date,runs,largest_model,flops,expected_seconds,seconds\n"
    with plainly(f"cannot write {path}"), path.open("a", encoding="utf-8") as file:
        file.write(header + line)  # in one piece, so that two launchers may do it

"""What a sweep will cost, and how it is spread over the machine, before anything is trained."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from scaling_lib.config import ModelConfig, RunConfig
from scaling_lib.counting import count_parameters, training_bytes, training_flops

# One thread per process beats two threads in one process for models up to a few million parameters: their matrix
# products are too small to be worth dividing.
ONE_CORE_BELOW_PARAMS = 3_000_000
IMPORTS_BYTES = 400_000_000  # Python with torch loaded, before the first tensor


@dataclass(frozen=True)
class Options:
    """How to compute; ``auto`` and None decide by the size of the run (see ``lm.runtime``)."""

    device: str = "auto"
    dtype: str = "auto"
    compile: bool | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Job:
    """Runs done by one process one after another: one run, or all that share a trunk, shortest first."""

    cells: tuple[RunConfig, ...]

    @property
    def flops(self) -> float:
        """What the job costs: a trunk is trained once, a decay for each of its runs."""
        return sum(training_flops(c.model, n) for c, n in self.own_tokens())

    def own_tokens(self) -> list[tuple[RunConfig, int]]:
        """Each run with the tokens that it trains itself, without the trunk that a shorter run has left."""
        out, trunk = [], 0
        for cell in self.cells:
            per_step = cell.train.batch_size * cell.model.seq_len
            out.append((cell, cell.n_tokens - trunk * per_step))
            if cell.train.schedule == "wsd":
                trunk = cell.train.decay_start
        return out


@dataclass(frozen=True)
class Phase:
    """Jobs that run side by side: ``workers`` processes with ``threads`` threads each, and why so many."""

    jobs: tuple[Job, ...]
    workers: int
    threads: int
    why: str


@dataclass(frozen=True)
class Plan:
    phases: tuple[Phase, ...]
    options: Options

    @property
    def cells(self) -> list[RunConfig]:
        return [cell for phase in self.phases for job in phase.jobs for cell in job.cells]

    @property
    def flops(self) -> float:
        return sum(job.flops for phase in self.phases for job in phase.jobs)

    @property
    def peak_bytes(self) -> float:
        """Estimate of the memory of all processes at the worst moment."""
        return max(
            phase.workers
            * (IMPORTS_BYTES + max(training_bytes(c.model, c.train.batch_size) for j in phase.jobs for c in j.cells))
            for phase in self.phases
        )


def cores() -> int:
    """Cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def make_plan(cells: Sequence[RunConfig], options: Options, *, on_gpu: bool = False) -> Plan:
    """Group runs into jobs and phases: small models side by side, largest first; large ones one at a time."""
    chains: dict[object, list[RunConfig]] = {}
    for cell in cells:
        # A trunk is shared by runs that differ in their length alone.
        shared = replace(cell.train, max_steps=10**9, decay_steps=0) if cell.train.schedule == "wsd" else cell.train
        chains.setdefault((cell.model, cell.corpus, shared), []).append(cell)
    jobs = [Job(tuple(sorted(chain, key=lambda c: c.train.max_steps))) for chain in chains.values()]
    jobs.sort(key=lambda job: -job.flops)  # largest first, so that no core idles at the end
    small: list[Job] = []
    large: list[Job] = []
    for job in jobs:
        fits_one_core = count_parameters(job.cells[0].model).total < ONE_CORE_BELOW_PARAMS
        (small if fits_one_core and not on_gpu else large).append(job)
    n_cores = cores()
    phases = []
    if small:
        workers = min(options.workers or n_cores, len(small))
        threads = max(1, n_cores // workers) if len(small) < n_cores and options.workers is None else 1
        why = f"{len(small)} jobs of small models: {workers} at a time, {threads} thread(s) each"
        phases.append(Phase(tuple(small), workers, threads, why))
    if large:
        workers = options.workers or 1
        why = "the device to itself" if on_gpu else f"{n_cores} threads"
        why = f"{len(large)} jobs of {'any size' if on_gpu else 'large models'}: {workers} at a time, {why}"
        phases.append(Phase(tuple(large), workers, max(1, n_cores // workers), why))
    return Plan(tuple(phases), options)


def calibrate(plan: Plan, budget_seconds: float = 10.0) -> dict[ModelConfig, float]:
    """Seconds per token of every model in the plan, measured on this machine by a few real steps.

    Measures the smallest, the middle and the largest model of each phase that can be measured in the time, and
    interpolates the rest in log-log. Costs about ``budget_seconds``.
    """
    from scaling_lib.lm.runtime import choose_runtime
    from scaling_lib.lm.speed import can_be_timed, seconds_per_token

    found: dict[ModelConfig, float] = {}
    for phase in plan.phases:
        models = {c.model: c for j in phase.jobs for c in j.cells}
        by_cost = sorted(models, key=lambda m: training_flops(m, 1))
        options = plan.options
        runtimes = {
            m: choose_runtime(
                models[m], device=options.device, dtype=options.dtype, compile=False, threads=phase.threads
            )
            for m in by_cost
        }
        budget = budget_seconds / 3 / len(plan.phases)
        timed = [m for m in by_cost if can_be_timed(models[m], runtimes[m], budget)] or by_cost[:1]
        known: list[tuple[float, float]] = []
        for index in sorted({0, len(timed) // 2, len(timed) - 1}):
            model = timed[index]
            seconds = seconds_per_token(models[model], runtimes[model], budget)
            known.append((math.log(training_flops(model, 1)), math.log(seconds)))
        for model in by_cost:
            found[model] = math.exp(_interpolate(math.log(training_flops(model, 1)), known))
    return found


def _interpolate(x: float, points: list[tuple[float, float]]) -> float:
    """Between the points a straight line, beyond the last in proportion: the same FLOPs a second."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1 and x1 > x0:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1] + max(0.0, x - points[-1][0])


def expected_seconds(
    plan: Plan, seconds_per_token: dict[ModelConfig, float], done: Collection[RunConfig] = ()
) -> float:
    """Wall time of the plan without the runs that are done: each free worker takes the next, largest job."""
    total = 0.0
    for phase in plan.phases:
        free_at = [0.0] * phase.workers
        for job in phase.jobs:
            cost = sum(
                tokens * seconds_per_token[cell.model] + evaluation_seconds(cell, seconds_per_token[cell.model])
                for cell, tokens in job.own_tokens()
                if cell not in done
            )
            worker = free_at.index(min(free_at))
            free_at[worker] += cost
        total += max(free_at)
    return total


def evaluation_seconds(cell: RunConfig, seconds_per_token: float) -> float:
    """The validation passes of one run: forward only, a third of a training step."""
    curve = min(8_192, cell.train.eval_tokens) * (2 + max(0.0, math.log2(cell.train.max_steps / 10)))
    return (cell.train.eval_tokens + curve) * seconds_per_token / 3

"""What a sweep will cost, and how it is spread over the machine, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scaling_lib.config import RunConfig
from scaling_lib.counting import count_parameters, training_bytes, training_flops
from scaling_lib.machine import cores
from scaling_lib.words import counted

if TYPE_CHECKING:
    from scaling_lib.lm.runtime import Runtime

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
    engine: str = "local"  # or dask, ray: an existing cluster (see sweep.engines)
    address: str | None = None  # of the cluster
    threads: int | None = None  # of each run
    on_gpu: bool = False  # then one run at a time

    def runtime(self, cell: RunConfig, **changes: Any) -> Runtime:
        """How a run is computed by these options. Loads torch; raises as ``choose_runtime`` does."""
        from scaling_lib.lm.runtime import choose_runtime

        own = {"device": self.device, "dtype": self.dtype, "compile": self.compile}
        return choose_runtime(cell, **{**own, **changes})


@dataclass(frozen=True)
class Job:
    """Runs done by one process one after another: one run, or all that share a trunk, shortest first."""

    cells: tuple[RunConfig, ...]

    @property
    def flops(self) -> float:
        """What the job costs: a trunk is trained once, a decay for each of its runs."""
        return sum(training_flops(c.model, n) for c, n in self.own_tokens())

    def own_tokens(self, done: Collection[RunConfig] = ()) -> list[tuple[RunConfig, int]]:
        """Each run that is not done, with the tokens it trains itself: without the trunk that a shorter one leaves.

        A run that is done leaves none: trunks are deleted when their job has ended.
        """
        out, trunk = [], 0
        for cell in self.cells:
            if cell in done:
                continue
            per_step = cell.train.batch_size * cell.model.seq_len
            out.append((cell, cell.n_tokens - trunk * per_step))
            if cell.train.schedule == "wsd":
                trunk = cell.train.decay_start
        return out


@dataclass(frozen=True)
class Phase:
    """Jobs that run side by side: ``workers`` processes with ``threads`` threads each, and why so many.

    ``threads`` 0: as many as PyTorch takes by itself.
    """

    jobs: tuple[Job, ...]
    workers: int
    threads: int
    why: str


@dataclass(frozen=True)
class Plan:
    """The phases of a sweep, one after another."""

    phases: tuple[Phase, ...]
    options: Options

    @property
    def jobs(self) -> list[Job]:
        return [job for phase in self.phases for job in phase.jobs]

    @property
    def cells(self) -> list[RunConfig]:
        return [cell for job in self.jobs for cell in job.cells]

    @property
    def flops(self) -> float:
        """Of training, a shared trunk counted once."""
        return sum(job.flops for job in self.jobs)

    def peak_bytes(self, computed: Callable[[RunConfig], tuple[int, int]] | None = None) -> float:
        """Estimate of the memory of all processes at the worst moment.

        ``computed`` says of a run how many sequences are computed at once and the bytes of an activation; without
        it, the whole batch in float32.
        """
        how = computed or (lambda cell: (cell.train.batch_size, 4))
        return max(
            phase.workers * (IMPORTS_BYTES + training_bytes(c.model, *how(c)))
            for phase in self.phases
            for job in phase.jobs
            for c in job.cells
        )


def make_plan(cells: Sequence[RunConfig], options: Options) -> Plan:
    """Group runs into jobs and phases: small models side by side, largest first; large ones one at a time."""
    chains: dict[object, list[RunConfig]] = {}
    for cell in cells:
        # A trunk is shared by runs that differ in their length alone.
        shared = replace(cell.train, max_steps=10**9, decay_steps=0) if cell.train.schedule == "wsd" else cell.train
        chains.setdefault((cell.model, cell.corpus, shared), []).append(cell)
    jobs = [Job(tuple(sorted(chain, key=lambda c: c.train.max_steps))) for chain in chains.values()]
    jobs.sort(key=lambda job: -job.flops)  # largest first, so that no core idles at the end
    parts: dict[bool, list[Job]] = {True: [], False: []}
    for job in jobs:
        small = not options.on_gpu and count_parameters(job.cells[0].model).total < ONE_CORE_BELOW_PARAMS
        parts[small].append(job)
    return Plan(tuple(_phase(part, small, options) for small, part in parts.items() if part), options)


def _phase(jobs: list[Job], small: bool, options: Options) -> Phase:
    n, n_cores = len(jobs), cores()
    what = f"{counted(n, 'job')} of {'any size' if options.on_gpu else 'small models' if small else 'large models'}"
    if options.engine != "local":
        # Its scheduler hands the jobs out. A small model takes one thread, a large one what its worker has.
        where = f"on the {options.engine} cluster, as many at a time as it has workers"
        return Phase(tuple(jobs), 1, options.threads or (1 if small else 0), f"{what}: {where}")
    workers = min(options.workers or (n_cores if small else 1), n)
    alone = not small or (n < n_cores and options.workers is None)  # no other job wants the cores that are left
    threads = options.threads or (max(1, n_cores // workers) if alone else 1)
    each = " each" if small or workers > 1 else ""
    why = "the device to itself" if options.on_gpu else counted(threads, "thread") + each
    return Phase(tuple(jobs), workers, threads, f"{what}: {workers} at a time, {why}")

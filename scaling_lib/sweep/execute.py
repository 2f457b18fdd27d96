"""Run a plan: jobs on an engine, finished runs skipped, one record per run, nothing lost on the way."""

from __future__ import annotations

import contextlib
import functools
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.config import ModelConfig, RunConfig, run_id, trunk_id
from scaling_lib.counting import training_flops
from scaling_lib.errors import InputError
from scaling_lib.runs import find_run, is_recorded, write_run
from scaling_lib.sweep import engines
from scaling_lib.sweep.locks import Lock, holder, try_lock
from scaling_lib.sweep.pack import forget
from scaling_lib.sweep.plan import Job, Options, Phase, Plan, cores

if TYPE_CHECKING:
    from scaling_lib.lm.corpus import Corpus
    from scaling_lib.lm.group import Group

WAIT_SECONDS = 1.0
IDLE_KILLS, MAX_KILLS = 3, 60


@dataclass(frozen=True)
class Outcome:
    """What became of one run: ``finished``, ``diverged``, ``skipped`` (was there already) or ``failed``."""

    run_id: str
    status: str
    message: str = ""


@dataclass(frozen=True)
class Snapshot:
    """How far a sweep has come: the share of its work that is done, and what runs now."""

    runs_done: int
    runs_total: int
    share_done: float
    running: tuple[tuple[str, float, float], ...]  # run_id, loss, tokens per second


def run_sweep(
    plan: Plan,
    out: Path,
    corpus: Corpus,
    *,
    force: bool = False,
    checkpoint_seconds: float = 60.0,
    history_points: int = 60,
    seconds_per_token: dict[ModelConfig, float] | None = None,
    on_snapshot: Callable[[Snapshot], None] | None = None,
) -> list[Outcome]:
    """Train every run of a plan that has no record in ``out`` yet.

    Records go to ``out/<run_id>.json``, checkpoints to ``out/.ckpt``, locks to ``out/.locks``. A run that
    another launcher is training is waited for, and taken over when that launcher dies.

    Parameters
    ----------
    corpus : the loaded corpus; workers load it again from its cache.
    force : forget records and checkpoints of these runs and start over.
    seconds_per_token : expected, for the share of work done; FLOPs stand for them when None.
    on_snapshot : called about twice a second.

    Raises
    ------
    InputError
        When ``out`` cannot be written, at the start or later (a full disk), or holds an invalid record. Finished
        records and checkpoints stay, and the next call goes on from them.
    """
    names = {cell: run_id(cell, corpus.fingerprint) for cell in plan.cells}
    engines.check_engine(plan.options)
    if force:
        forget(out, list(names.values()))
        for cell, name in names.items():
            (out / ".ckpt" / f"{name}.pt").unlink(missing_ok=True)
            for path in (out / ".ckpt").glob(f"{trunk_id(cell, corpus.fingerprint)}-*.pt"):
                path.unlink(missing_ok=True)
    check_writable(out)
    # Read, not only looked for: a damaged record is said before hours of training, not after.
    found_done = {name for name in names.values() if find_run(out, name)}
    weights = _weights(plan, seconds_per_token, [cell for cell, name in names.items() if name in found_done])
    failed: dict[str, Outcome] = {}
    with engines.engine(plan.options) as engine, _watching(names, weights, out, on_snapshot):
        for phase in plan.phases:
            work = functools.partial(
                run_job,
                out=out.resolve(),
                fingerprint=corpus.fingerprint,
                options=plan.options,
                threads=phase.threads,
                checkpoint_seconds=checkpoint_seconds,
                history_points=history_points,
            )
            failed |= {o.run_id: o for o in _run_phase(phase, engine, names, out, work)}
    outcomes = []
    for name in names.values():
        if run := find_run(out, name):
            outcomes.append(Outcome(name, "skipped" if name in found_done else run.status))
        else:
            outcomes.append(failed.get(name, Outcome(name, "failed", "its record has vanished")))
    return outcomes


def _run_phase(
    phase: Phase,
    engine: engines.Engine,
    names: dict[RunConfig, str],
    out: Path,
    work: Callable[[Job], list[Outcome]],
) -> list[Outcome]:
    """Run a phase's unfinished jobs, again where a worker process was killed. Returns what failed.

    A killed worker takes its companions with it (the pool is broken); all go on from their checkpoints. Given up
    is what is killed ``IDLE_KILLS`` times in a row without a new record or checkpoint, as a run too large for the
    memory is, or ``MAX_KILLS`` times in all, as one that fails only at its end.
    """
    from joblib import Parallel, delayed

    kills, idle_kills, before = 0, 0, _state(out)
    while True:
        missing = {c: names[c] for j in phase.jobs for c in j.cells if not is_recorded(out, names[c])}
        todo = [job for job in phase.jobs if any(c in missing for c in job.cells)]
        if not todo:
            return []
        try:
            n_jobs = engine.n_jobs(phase, len(todo))
            results = Parallel(n_jobs=n_jobs, batch_size=1)(delayed(work)(job) for job in todo)
            return [o for result in results for o in result if o.status == "failed"]
        except engine.killed:
            kills += 1
            now = _state(out)
            idle_kills, before = (idle_kills + 1 if now == before else 0), now
            if idle_kills >= IDLE_KILLS or kills >= MAX_KILLS:
                why = f"its process was killed {kills} times (out of memory?); try --workers 1"
                return [Outcome(name, "failed", why) for name in missing.values()]


def run_together(
    plan: Plan, out: Path, corpus: Corpus, group: Group, *, checkpoint_seconds: float = 60.0, history_points: int = 60
) -> list[Outcome]:
    """Train the plan's runs one after another, each by all processes of the group (torchrun).

    Records, locks and checkpoints as in ``run_sweep``. Raises the same.
    """
    if group.leads:
        check_writable(out)
    return [
        outcome
        for phase in plan.phases
        for job in phase.jobs
        for outcome in run_job(
            job,
            out=out.resolve(),
            fingerprint=corpus.fingerprint,
            options=plan.options,
            threads=max(1, cores() // group.size),
            checkpoint_seconds=checkpoint_seconds,
            history_points=history_points,
            group=group,
        )
    ]


def _state(out: Path) -> frozenset[tuple[str, int]]:
    """The records and checkpoints of a folder, with the time of writing: it changes when a sweep gets on."""
    found = set()
    for path in [*out.glob("*.json"), *(out / ".ckpt").glob("*.pt")]:
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            found.add((path.name, path.stat().st_mtime_ns))
    return frozenset(found)


def run_job(
    job: Job,
    *,
    out: Path,
    fingerprint: str,
    options: Options,
    threads: int,
    checkpoint_seconds: float,
    history_points: int,
    group: Group | None = None,
) -> list[Outcome]:
    """Train the runs of one job in this process, shortest first; called in a worker.

    In a ``group`` every process calls this alike, and the leader takes the locks and writes.
    """
    from scaling_lib.lm.group import ALONE
    from scaling_lib.lm.runtime import choose_runtime
    from scaling_lib.lm.train import Progress, train

    group = group or ALONE
    corpus = corpus_of(job.cells[0])
    if corpus.fingerprint != fingerprint:  # python-env on a machine with other packages
        why = f"{corpus.name} is another text on {socket.gethostname()}: same packages everywhere, or text:PATH"
        return [Outcome(run_id(cell, fingerprint), "failed", why) for cell in job.cells]
    # One runtime for all runs of a trunk, chosen for the longest: a trunk is shared only if computed alike.
    runtime = choose_runtime(
        job.cells[-1],
        device=options.device,
        dtype=options.dtype,
        compile=options.compile,
        threads=threads or None,
    )
    outcomes = []
    for cell in job.cells:
        name = run_id(cell, corpus.fingerprint)
        lock = None
        if group.leads:
            while (lock := try_lock(out / ".locks" / f"{name}.lock")) is None and not is_recorded(out, name):
                time.sleep(WAIT_SECONDS)
        try:
            found = find_run(out, name) if group.leads else None
            if (status := group.agree(found.status if found else None)) is not None:
                outcomes.append(Outcome(name, "skipped", status))
                continue

            def tell(p: Progress, lock: Lock | None = lock, name: str = name) -> None:
                assert lock is not None  # the leader's, and only the leader is asked to tell
                lock.tell(done=p.step / p.max_steps, loss=p.loss, tokens_per_second=p.tokens_per_second)

            run = train(
                cell,
                corpus,
                runtime=runtime,
                checkpoint_dir=out / ".ckpt",
                checkpoint_seconds=checkpoint_seconds,
                history_points=history_points,
                on_progress=tell,
                group=group,
            )
            if group.leads:
                write_run(run, out)
                (out / ".ckpt" / f"{name}.pt").unlink(missing_ok=True)
            outcomes.append(Outcome(name, run.status))
        # A full disk or a folder that vanished (InputError) ends the sweep: no other run would fare better.
        except (MemoryError, RuntimeError) as error:  # torch reports lack of memory as RuntimeError
            if group.size > 1:  # the others wait for this process: end all
                raise
            what = (str(error).splitlines() or ["no more is known"])[0]  # Python's own MemoryError says nothing
            outcomes.append(Outcome(name, "failed", f"{type(error).__name__}: {what}"))
        finally:
            if lock:
                lock.release()
    if group.leads and all(o.status != "failed" for o in outcomes):
        for path in (out / ".ckpt").glob(f"{trunk_id(job.cells[0], corpus.fingerprint)}-*.pt"):
            path.unlink(missing_ok=True)
    return outcomes


@functools.lru_cache(maxsize=2)
def _load(spec: str, vocab_size: int) -> Corpus:
    from scaling_lib.lm.corpus import load_corpus

    return load_corpus(spec, vocab_size)


def corpus_of(cell: RunConfig) -> Corpus:
    """The corpus a run is trained on, loaded once in a process."""
    return _load(cell.corpus, cell.model.vocab_size)


def check_writable(out: Path) -> None:
    """Make the folder and try it, so that a sweep fails before its first run; raises InputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as probe:  # of a name of its own: two launchers may start at once
            probe.write(b"x" * 4096)
    except OSError as error:
        raise InputError(
            f"cannot write to {out}: {error.strerror or error}; choose another folder with --out"
        ) from error


def _weights(
    plan: Plan, seconds_per_token: dict[ModelConfig, float] | None, done: Collection[RunConfig]
) -> dict[RunConfig, tuple[float, float]]:
    """Of each run, what its own tokens weigh, and the share of its steps that a shorter run's trunk spares it."""
    weights = {}
    for job in (job for phase in plan.phases for job in phase.jobs):
        for cell, own in {**dict(job.own_tokens()), **dict(job.own_tokens(done))}.items():
            weigh = training_flops(cell.model, 1) if seconds_per_token is None else seconds_per_token[cell.model]
            weights[cell] = (weigh * own, 1 - own / cell.n_tokens)
    return weights


class _watching:
    """Report how far a sweep has come, from its records and lock files alone, while the block runs."""

    def __init__(
        self,
        names: dict[RunConfig, str],
        weights: dict[RunConfig, tuple[float, float]],
        out: Path,
        report: Callable[[Snapshot], None] | None,
    ) -> None:
        self._names, self._weights, self._out, self._report = names, weights, out, report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        if self._report:
            self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._report:
            self._thread.join()
            self._report(self._snapshot())

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            assert self._report is not None
            self._report(self._snapshot())

    def _snapshot(self) -> Snapshot:
        done, work, running = 0, 0.0, []
        for cell, name in self._names.items():
            weight, spared = self._weights[cell]
            if is_recorded(self._out, name):
                done += 1
                work += weight
            elif (held := holder(self._out / ".locks" / f"{name}.lock")) and "done" in held:
                work += weight * max(held["done"] - spared, 0.0) / (1 - spared)
                running.append((name, float(held["loss"]), float(held["tokens_per_second"])))
        share = work / sum(weight for weight, _ in self._weights.values())
        return Snapshot(done, len(self._names), share, tuple(running))

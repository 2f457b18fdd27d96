"""Run a plan: jobs on an engine, finished runs skipped, one record per run, nothing lost on the way."""

from __future__ import annotations

import contextlib
import functools
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.config import ModelConfig, RunConfig, run_id, trunk_id
from scaling_lib.counting import training_flops
from scaling_lib.files import plainly, remove_leftovers
from scaling_lib.runs import find_run, is_recorded, write_run
from scaling_lib.sweep import engines
from scaling_lib.sweep.locks import Lock, holder, locked, try_lock
from scaling_lib.sweep.pack import forget
from scaling_lib.sweep.plan import Job, Options, Phase, Plan, cores

if TYPE_CHECKING:
    from scaling_lib.lm.corpus import Corpus
    from scaling_lib.lm.group import Group
    from scaling_lib.lm.runtime import Runtime

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


@dataclass(frozen=True)
class Order:
    """What a worker must know of a sweep beside its job."""

    out: Path
    fingerprint: str  # of the corpus
    options: Options
    checkpoint_seconds: float
    history_points: int


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
    plan, out, corpus
        What to train, where to, and on what; workers load the corpus again from its cache.
    force
        Forget records and checkpoints of these runs and start over.
    checkpoint_seconds, history_points
        As in ``lm.train.train``.
    seconds_per_token
        Expected, for the share of work done; FLOPs stand for them when None.
    on_snapshot
        Called about twice a second.

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
            remove_checkpoints(out, name, f"{trunk_id(cell, corpus.fingerprint)}-*")
    check_writable(out)
    remove_leftovers(out, out / ".ckpt", out / ".locks")
    # Read, not only looked for: a damaged record is said before hours of training, not after.
    found_done = {name for name in names.values() if find_run(out, name)}
    weights = _weights(plan, seconds_per_token, [cell for cell, name in names.items() if name in found_done])
    order = Order(out.resolve(), corpus.fingerprint, plan.options, checkpoint_seconds, history_points)
    told: dict[str, Outcome] = {}
    with engines.engine(plan.options) as engine, _reporting(lambda: _snapshot(names, weights, out), on_snapshot):
        for phase in plan.phases:
            told |= {o.run_id: o for o in _run_phase(phase, engine, names, order)}
    outcomes = []
    for name in names.values():
        vanished = Outcome(name, "failed", "its record has vanished")
        said = told.get(name, vanished)
        if run := find_run(out, name):
            others = name in found_done or said.status == "skipped"  # by its job: another launcher had trained it
            outcomes.append(Outcome(name, "skipped" if others else run.status))
        else:
            outcomes.append(said if said.status == "failed" else vanished)
    for job in plan.jobs:  # of jobs whose worker was killed when all was recorded
        if all(is_recorded(out, names[cell]) for cell in job.cells):
            _remove_trunk(out, trunk_id(job.cells[0], corpus.fingerprint))
    return outcomes


def _run_phase(phase: Phase, engine: engines.Engine, names: dict[RunConfig, str], order: Order) -> list[Outcome]:
    """Run a phase's unfinished jobs, again where a worker process was killed. Returns what became of the runs.

    A killed worker takes its companions with it (the pool is broken); all go on from their checkpoints. Given up
    is what is killed ``IDLE_KILLS`` times in a row without a new record or checkpoint, as a run too large for the
    memory is, or ``MAX_KILLS`` times in all, as one that fails only at its end.
    """
    from joblib import delayed

    kills, idle_kills, before = 0, 0, _state(order.out)
    ours: set[str] = set()  # recorded before a kill, so that the job finds them there and thinks them another's
    while True:
        missing = {c: names[c] for j in phase.jobs for c in j.cells if not is_recorded(order.out, names[c])}
        todo = [job for job in phase.jobs if any(c in missing for c in job.cells)]
        if not todo:
            return []
        try:
            results = engine.run([delayed(run_job)(job, order, phase.threads) for job in todo], phase)
            return [o for result in results for o in result if o.run_id not in ours]
        except engine.killed:
            kills += 1
            ours |= {name for name in missing.values() if is_recorded(order.out, name)}
            now = _state(order.out)
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
    order = Order(out.resolve(), corpus.fingerprint, plan.options, checkpoint_seconds, history_points)
    threads = plan.options.threads or max(1, cores() // group.size)
    return [outcome for job in plan.jobs for outcome in run_job(job, order, threads, group)]


def _state(out: Path) -> frozenset[tuple[str, int]]:
    """The records and checkpoints of a folder, with the time of writing: it changes when a sweep gets on."""
    found = set()
    for path in [*out.glob("*.json"), *(out / ".ckpt").glob("*.pt")]:
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            found.add((path.name, path.stat().st_mtime_ns))
    return frozenset(found)


def run_job(job: Job, order: Order, threads: int, group: Group | None = None) -> list[Outcome]:
    """Train the runs of one job in this process, shortest first; called in a worker.

    In a ``group`` every process calls this alike, and the leader takes the locks and writes.
    """
    from scaling_lib.lm.group import ALONE

    group, out = group or ALONE, order.out
    corpus = load_once(job.cells[0].corpus, job.cells[0].model.vocab_size)
    names = {cell: run_id(cell, order.fingerprint) for cell in job.cells}
    if corpus.fingerprint != order.fingerprint:  # python-env on a machine with other packages
        why = f"{corpus.name} is another text on {socket.gethostname()}: same packages everywhere, or text:PATH"
        return [Outcome(name, "failed", why) for name in names.values()]
    # One runtime for all runs of a trunk, chosen for the longest: a trunk is shared only if computed alike.
    runtime = order.options.runtime(job.cells[-1], threads=threads or None)
    trunk = trunk_id(job.cells[0], corpus.fingerprint)
    mark = out / ".locks" / f"{trunk}@{uuid.uuid4().hex}.lock"  # of one who needs the trunk
    with locked(mark) if group.leads and len(job.cells) > 1 else contextlib.nullcontext():
        outcomes = [_run_cell(cell, name, corpus, order, runtime, group) for cell, name in names.items()]
    if group.leads and all(o.status != "failed" for o in outcomes):
        _remove_trunk(out, trunk)
    return outcomes


def _run_cell(cell: RunConfig, name: str, corpus: Corpus, order: Order, runtime: Runtime, group: Group) -> Outcome:
    """Train one run that nobody else has trained or is training, and write its record."""
    from scaling_lib.lm.train import train

    out = order.out
    lock = _wait_for(out, name) if group.leads else None
    try:
        found = find_run(out, name) if group.leads else None
        if (status := group.agree(found.status if found else None)) is not None:
            return Outcome(name, "skipped", status)
        run = train(
            cell,
            corpus,
            runtime=runtime,
            checkpoint_dir=out / ".ckpt",
            checkpoint_seconds=order.checkpoint_seconds,
            history_points=order.history_points,
            on_progress=lock.tell if lock else None,
            group=group,
        )
        if group.leads:
            write_run(run, out)
            remove_checkpoints(out, name)
        return Outcome(name, run.status)
    # A full disk or a folder that vanished (InputError) ends the sweep: no other run would fare better.
    except (MemoryError, RuntimeError) as error:  # torch reports lack of memory as RuntimeError
        if group.size > 1:  # the others wait for this process: end all
            raise
        what = (str(error).splitlines() or ["no more is known"])[0]  # Python's own MemoryError says nothing
        return Outcome(name, "failed", f"{type(error).__name__}: {what}")
    finally:
        if lock:
            lock.release()


def _remove_trunk(out: Path, trunk: str) -> None:
    """Delete the states of a trunk, unless another launcher needs them; the marks of dead ones are cleared away."""
    marks = [try_lock(path) for path in (out / ".locks").glob(f"{trunk}@*.lock")]
    for lock in filter(None, marks):
        lock.release()
    if all(marks):
        remove_checkpoints(out, f"{trunk}-*")


def _wait_for(out: Path, name: str) -> Lock | None:
    """The lock of a run; None where another process has finished the run meanwhile."""
    while (lock := try_lock(out / ".locks" / f"{name}.lock")) is None and not is_recorded(out, name):
        time.sleep(WAIT_SECONDS)
    return lock


def remove_checkpoints(out: Path, *patterns: str) -> None:
    """Delete the checkpoints of a sweep's folder whose names without ``.pt`` fit one of the patterns."""
    for path in [path for pattern in patterns for path in (out / ".ckpt").glob(f"{pattern}.pt")]:
        path.unlink(missing_ok=True)


@functools.lru_cache(maxsize=2)
def load_once(spec: str, vocab_size: int) -> Corpus:
    """A corpus, loaded once in a process."""
    from scaling_lib.lm.corpus import load_corpus

    return load_corpus(spec, vocab_size)


def check_writable(out: Path) -> None:
    """Make the folder and try it, so that a sweep fails before its first run; raises InputError."""
    with plainly(f"cannot write to {out}", "; choose another folder with --out"):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as probe:  # of a name of its own: two launchers may start at once
            probe.write(b"x" * 4096)


def _weights(
    plan: Plan, seconds_per_token: dict[ModelConfig, float] | None, done: Collection[RunConfig]
) -> dict[RunConfig, tuple[float, float]]:
    """Of each run, what its own tokens weigh, and the share of its steps that a shorter run's trunk spares it."""
    weights = {}
    for job in plan.jobs:
        for cell, own in {**dict(job.own_tokens()), **dict(job.own_tokens(done))}.items():
            weigh = training_flops(cell.model, 1) if seconds_per_token is None else seconds_per_token[cell.model]
            weights[cell] = (weigh * own, 1 - own / cell.n_tokens)
    return weights


@contextlib.contextmanager
def _reporting(look: Callable[[], Snapshot], report: Callable[[Snapshot], None] | None) -> Iterator[None]:
    """Report what ``look`` sees twice a second while the block runs, and once at its end."""
    if report is None:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            report(look())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report(look())


def _snapshot(names: dict[RunConfig, str], weights: dict[RunConfig, tuple[float, float]], out: Path) -> Snapshot:
    """How far a sweep has come, from its records and lock files alone."""
    done, work, running = 0, 0.0, []
    for cell, name in names.items():
        weight, spared = weights[cell]
        if is_recorded(out, name):
            done += 1
            work += weight
        elif (held := holder(out / ".locks" / f"{name}.lock")) and "done" in held:
            work += weight * max(held["done"] - spared, 0.0) / (1 - spared)
            running.append((name, float(held["loss"]), float(held["tokens_per_second"])))
    return Snapshot(done, len(names), work / sum(weight for weight, _ in weights.values()), tuple(running))

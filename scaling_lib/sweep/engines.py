"""Where jobs run: the cores of this machine, or an existing Dask or Ray cluster. joblib is the one seam.

Cluster engines send Python objects between machines as pickles, which run code when they are opened: use them in
networks that you trust. Every machine must see the folder of the records under the same path; each makes the
corpus in a cache of its own.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.machine import is_dead
from scaling_lib.sweep.plan import Options, Phase

ENGINES = ("local", "dask", "ray")
CONNECT_SECONDS = 15
WATCH_SECONDS = 1.0  # between two looks of a worker at its launcher
# What a person installs for an engine, and how an address looks.
_EXTRAS = {"dask": ("distributed", "cluster", "tcp://HOST:8786"), "ray": ("ray", "ray", "HOST:6379 or auto")}


@dataclass(frozen=True)
class Engine:
    """An engine that is ready: joblib's backend is set to it."""

    killed: tuple[type[BaseException], ...]  # the errors that say that a worker process died with its job
    everything: bool = False  # take all workers there are, however many the plan has for this machine

    def run(self, tasks: list[Any], phase: Phase) -> list[Any]:
        """The results of joblib's tasks."""
        from joblib import Parallel

        if self.everything:
            return list(Parallel(n_jobs=-1, batch_size=1)(tasks))
        return in_workers(tasks, min(phase.workers, len(tasks)))


def check_engine(options: Options) -> None:
    """Raise InputError for an unknown engine, one that is not installed, or a missing or needless address."""
    name, address = options.engine, options.address
    if name not in ENGINES:
        raise InputError(f"unknown engine {name!r}; choose from {', '.join(ENGINES)}")
    if name == "local":
        if address:
            raise InputError(f"--address {address} belongs to a cluster; add --engine dask or --engine ray")
        return
    package, extra, form = _EXTRAS[name]
    if importlib.util.find_spec(package) is None:
        raise InputError(f"engine {name}: needs {package}; install it with: pip install -e '.[{extra}]'")
    if not address:
        raise InputError(f"engine {name}: say where the cluster is, for example --address {form}")


def in_workers(tasks: Iterable[Any], n_jobs: int) -> list[Any]:
    """The results of joblib's tasks from processes of this machine, which their launcher alone ends; one runs here.

    Ctrl-C and a terminal that closes tell all processes of a terminal; one that is just starting, or that serves
    others, would answer with a traceback. One whose launcher was killed without a chance to say so would train on.
    """
    from joblib import Parallel, parallel_config

    if n_jobs == 1:
        return list(Parallel(n_jobs=1, batch_size=1)(tasks))
    _start_trackers()
    watch = parallel_config("loky", initializer=_end_with, initargs=(os.getpid(),))
    with warnings.catch_warnings():
        # What a compiler leaves in memory makes joblib start a worker anew: it loses nothing, and sounds like a fault.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
        warnings.filterwarnings("ignore", r"\d+ tasks ")  # that an interrupt cancelled
        results: Any = None
        try:
            with watch, _deaf():
                results = Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator")(tasks)  # starts them, returns
            return list(results)
        finally:
            if results is not None:
                results.close()  # where it was interrupted: here, and not where its warning would be shown


def _start_trackers() -> None:
    """Start the processes that clear up shared memory: deaf, and without a word of what a killed process left."""
    from joblib.externals.loky.backend import resource_tracker as tracker_of_joblib

    trackers: list[Any] = [tracker_of_joblib]
    if os.name == "posix":  # elsewhere Python has none
        from multiprocessing import resource_tracker as tracker_of_python

        trackers.append(tracker_of_python)
    quietly = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(quietly)  # which a new process inherits
    try:
        for tracker in trackers:
            with _deaf():  # anew for each: once Python's is started, this process listens again
                tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quietly)


def _end_with(launcher: int) -> None:
    """End this process soon after its launcher."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where signals cannot be held back: on Windows

    def watch() -> None:
        while not is_dead(launcher):
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """A process that is started in the block never hears a terminal's signals. (This one may: by its other threads.)"""
    known = {getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)}
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, known)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def engine(options: Options) -> contextlib.AbstractContextManager[Engine]:
    """Connect to the engine of ``options`` and make it joblib's backend inside the block.

    A Ray worker has one processor and no GPU, as joblib asks Ray for them: small models suit it.

    Raises
    ------
    InputError
        As ``check_engine``; or when no cluster answers at the address (Dask: within fifteen seconds).
    """
    check_engine(options)
    if options.engine != "local":
        return {"dask": _dask, "ray": _ray}[options.engine](str(options.address))
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    return contextlib.nullcontext(Engine(killed=(TerminatedWorkerError,)))


@contextlib.contextmanager
def _dask(address: str) -> Iterator[Engine]:
    from distributed import Client, KilledWorker
    from joblib import parallel_config

    try:
        client: Any = Client(address, timeout=CONNECT_SECONDS, set_as_default=True)
    except (OSError, ValueError) as error:
        raise InputError(_no_answer("Dask scheduler", address, error)) from error
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        start = f"dask worker {address} --nworkers auto --nthreads 1"
        if not workers:
            raise InputError(f"the Dask scheduler at {address} has no workers; start some with: {start}")
        if any(w["nthreads"] > 1 for w in workers.values()):  # threads of one process would share PyTorch's settings
            raise InputError(f"Dask workers of one thread each are wanted; start them with: {start}")
        with parallel_config(backend="dask"):
            yield Engine(killed=(KilledWorker,), everything=True)


@contextlib.contextmanager
def _ray(address: str) -> Iterator[Engine]:
    import ray
    from joblib import parallel_config
    from ray.util.joblib import register_ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        raise InputError(_no_answer("Ray cluster", address, error)) from error
    try:
        register_ray()
        with parallel_config(backend="ray"):
            yield Engine(killed=(ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError), everything=True)
    finally:
        ray.shutdown()


def _no_answer(what: str, address: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"no {what} answers at {address} ({reason}); start it first, or correct --address"

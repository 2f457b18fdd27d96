"""Workers of this machine; sweeps on a real Dask cluster over TCP, one of its workers killed; Ray, if there."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig, run_id
from scaling_lib.errors import InputError
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.runs import read_run
from scaling_lib.sweep.engines import check_engine, engine
from scaling_lib.sweep.execute import run_sweep
from scaling_lib.sweep.plan import Options, make_plan

TEXT = "uniform:train_tokens=60000,val_tokens=8192"
MODEL = ModelConfig(1, 2, 32, 300, 32)
needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra `cluster`")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")


def runs(count: int, steps: int) -> list[RunConfig]:
    train = TrainConfig("v2", steps, 8, 0.01, "cosine", warmup_steps=5, eval_tokens=2048)
    return [RunConfig(MODEL, dataclasses.replace(train, seed=seed), TEXT) for seed in range(count)]


def losses(folder: Path) -> dict[str, tuple[float | None, ...]]:
    """What a record says apart from timings: the losses of its whole history."""
    found = {}
    for path in folder.glob("*.json"):
        run = read_run(path)
        found[run.run_id] = (run.val_loss, *(p.train_loss for p in run.history))
    return found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(engine="slurm"), "unknown engine 'slurm'; choose from local, dask, ray"),
        (Options(address="tcp://a:1"), "add --engine dask"),
        pytest.param(Options(engine="dask"), "--address tcp://HOST:8786", marks=needs_dask),
        pytest.param(Options(engine="ray"), "--address HOST:6379", marks=needs_ray),
    ],
)
def test_a_wrong_engine_is_one_line(options: Options, says: str) -> None:
    with pytest.raises(InputError) as error:
        check_engine(options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_engine_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    for name, extra in (("dask", "cluster"), ("ray", "ray")):
        with pytest.raises(InputError, match=rf"pip install -e '\.\[{extra}\]'"):
            check_engine(Options(engine=name, address="here:1"))


WAITING = """
import sys, time
from pathlib import Path
from joblib import delayed
from scaling_lib.sweep.engines import in_workers
def task(i):
    Path(sys.argv[1], str(i)).touch()
    time.sleep(120)
in_workers([delayed(task)(i) for i in range(2)], 2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them: they are not tried")
def test_workers_end_soon_after_a_launcher_that_was_killed_whatever_they_do(tmp_path: Path) -> None:
    script = WAITING.replace("sys.argv[1]", repr(str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as launcher:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2:  # both work
            assert launcher.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kin = psutil.Process(launcher.pid).children(recursive=True)
        assert len(kin) == 4  # two workers, two trackers
        launcher.kill()
        assert not psutil.wait_procs(kin, timeout=30)[1]
        assert launcher.stderr is not None
        assert launcher.stderr.read() == ""


@needs_dask
@pytest.mark.slow
def test_where_nobody_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from scaling_lib.sweep import engines

    monkeypatch.setattr(engines, "CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://127.0.0.1:9"):
        with (
            pytest.raises(InputError, match=r"\Ano Dask scheduler answers at [^\n]+\Z"),
            engine(Options(engine="dask", address=address)),
        ):
            pass


@needs_dask
@pytest.mark.slow
def test_a_sweep_on_a_dask_cluster_outlives_a_worker(tmp_path: Path) -> None:
    """Two worker processes over TCP; one is killed in the middle; the records are those of a local sweep."""
    from distributed import LocalCluster

    corpus = load_corpus(TEXT, 300)
    cells = runs(3, 200)
    run_sweep(make_plan(cells, Options(device="cpu", workers=1)), tmp_path / "local", corpus)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", protocol="tcp://", dashboard_address=None
    ) as cluster:
        out = tmp_path / "cluster"
        nanny = next(iter(cluster.workers.values()))
        nanny.close_gracefully()  # no worker is to take the place of this one: the other does the rest
        victim = nanny.pid

        def kill_when_it_works() -> None:
            for _ in range(1200):
                if list((out / ".ckpt").glob("*.pt")):
                    os.kill(victim, signal.SIGKILL)
                    killed.set()
                    return
                time.sleep(0.05)

        killed = threading.Event()
        threading.Thread(target=kill_when_it_works, daemon=True).start()
        plan = make_plan(cells, Options(device="cpu", engine="dask", address=cluster.scheduler_address))
        outcomes = run_sweep(plan, out, corpus, checkpoint_seconds=0.05)
    assert killed.is_set()
    assert [o.status for o in outcomes] == ["finished"] * 3
    assert losses(out) == losses(tmp_path / "local")
    assert len(losses(out)) == 3
    assert not list((out / ".locks").glob("*.lock"))


HOLD_RAY = """
import ray, sys
context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@needs_ray
@pytest.mark.slow
def test_a_sweep_on_a_ray_cluster_gives_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # both ends are this test's
    corpus = load_corpus(TEXT, 300)
    cells = runs(3, 60)
    run_sweep(make_plan(cells, Options(device="cpu", workers=1)), tmp_path / "local", corpus)
    # The cluster belongs to a process of its own, which this one joins and which ends when its input does.
    command = [sys.executable, "-c", HOLD_RAY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        plan = make_plan(cells, Options(device="cpu", engine="ray", address=address))
        outcomes = run_sweep(plan, tmp_path / "cluster", corpus)
    assert [o.status for o in outcomes] == ["finished"] * 3
    assert losses(tmp_path / "cluster") == losses(tmp_path / "local")


def test_a_machine_with_another_text_fails_its_runs_and_says_why(tmp_path: Path) -> None:
    """python-env differs between machines: a record under the name of another text must never be written."""
    corpus = load_corpus(TEXT, 300)
    (cell,) = runs(1, 5)
    elsewhere = dataclasses.replace(corpus, fingerprint="0" * 64)
    (outcome,) = run_sweep(make_plan([cell], Options(device="cpu", workers=1)), tmp_path, elsewhere)
    assert outcome.status == "failed"
    assert "another text" in outcome.message
    assert outcome.run_id == run_id(cell, "0" * 64)
    assert not list(tmp_path.glob("*.json"))

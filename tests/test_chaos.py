"""A sweep on real processes is killed again and again, and ends with the records of one that was left in peace.

Three kills take about twenty seconds. Before a release: SCALING_LIB_KILLS=20 python -m pytest tests/test_chaos.py
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

KILLS = int(os.environ.get("SCALING_LIB_KILLS", "3"))
STEPS = 80 * KILLS  # the more kills, the longer must be what is killed
SWEEP = """
import sys
from dataclasses import replace
from pathlib import Path
from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.sweep.execute import run_sweep
from scaling_lib.sweep.plan import Options, make_plan

text = "random-walk:train_tokens=60000,val_tokens=8192"
steps = int(sys.argv[2])
plain = TrainConfig("v2", steps, 4, 0.01, "cosine", steps // 10, 0, 0.01, eval_tokens=2048)
trunk = replace(plain, recipe="wsd", schedule="wsd", warmup_steps=20)
cells = [RunConfig(ModelConfig(1, 2, d, 257, 16), plain, text) for d in (16, 24, 32)]
cells += [
    RunConfig(ModelConfig(1, 2, 16, 257, 16), replace(trunk, max_steps=n, decay_steps=n // 5), text)
    for n in (steps // 4, steps // 2, steps)
]
if __name__ == "__main__":
    corpus = load_corpus(text, 257)
    plan = make_plan(cells, Options(device="cpu", workers=int(sys.argv[3])))
    outcomes = run_sweep(plan, Path(sys.argv[1]), corpus, checkpoint_seconds=0.2)
    print([o.status for o in outcomes])
    sys.exit(any(o.status == "failed" for o in outcomes))
"""


def start(script: Path, out: Path, workers: int = 2) -> subprocess.Popen:
    command = [sys.executable, str(script), str(out), str(STEPS), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def kill(what: str, parent: subprocess.Popen, rng: random.Random) -> bool:
    """SIGKILL a worker, the parent, or all of them. False where there was no worker yet to kill."""
    try:
        children = psutil.Process(parent.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return False
    workers = [c for c in children if any("popen_loky" in word for word in _command(c))]
    if not workers:
        return False
    victims = [rng.choice(workers)] if what == "worker" else []
    if what in ("parent", "both"):
        victims = [psutil.Process(parent.pid), *(children if what == "both" else [])]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
    return True


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def records(out: Path) -> dict[str, dict]:
    """What the records say of the training; not where, when and how fast."""
    found = {}
    for path in out.glob("*.json"):
        data = json.loads(path.read_text())
        for key in ("environment", "seconds", "tokens_per_second", "sha256"):
            data.pop(key)
        found[path.name] = data
    return found


def newest(out: Path) -> float:
    """When the sweep last kept something: a checkpoint or a record. Seconds of the clock, 0 where there is none."""
    found = 0.0
    for path in (*out.glob(".ckpt/*.pt"), *out.glob("*.json")):
        with contextlib.suppress(FileNotFoundError):  # a finished run removes its checkpoints
            found = max(found, path.stat().st_mtime)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL; the chaos is not tried")
def test_kills_lose_nothing(tmp_path):
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    peace, chaos = tmp_path / "peace", tmp_path / "chaos"
    assert start(script, peace, workers=1).wait(timeout=600) == 0
    expected = records(peace)
    assert len(expected) == 6

    rng = random.Random(1)
    wanted = [("worker", "parent", "both")[i % 3] for i in range(KILLS)]
    rng.shuffle(wanted)
    kills = starts = 0
    parent = start(script, chaos)
    since, patience = time.time(), 0.0  # the last kill, and how long to wait for the next
    waits_for_work = True  # else a worker may die while it starts
    finished_once: dict[str, int] = {}
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        if parent.poll() is not None:
            if parent.returncode == 0:
                break
            parent = start(script, chaos)
            starts += 1
        time.sleep(0.05)
        ready = time.time() > since + patience and (not waits_for_work or newest(chaos) > since)
        if ready and kills < KILLS:
            time.sleep(rng.uniform(0, 0.3))
            if kill(wanted[kills], parent, rng):
                kills += 1
                since, patience, waits_for_work = time.time(), rng.uniform(0, 1), rng.random() < 0.4
        for path in chaos.glob("*.json"):  # a finished run is never trained again
            written = finished_once.setdefault(path.name, path.stat().st_mtime_ns)
            assert path.stat().st_mtime_ns == written
    assert parent.returncode == 0
    assert kills == KILLS, f"the sweep ended after {kills} kills: make it longer"
    assert starts == sum(what != "worker" for what in wanted)  # whose worker is killed goes on
    assert records(chaos) == expected
    assert not list((chaos / ".locks").glob("*.lock"))
    assert not list(chaos.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL; orphans are not looked for")
def test_workers_end_soon_after_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "sweep.py"
    endless = SWEEP.replace("steps = int(sys.argv[2])", "steps = 1_000_000")
    script.write_text(endless.replace('device="cpu"', 'device="cpu", compile=False'))  # it would pay for so long a run
    parent = start(script, tmp_path / "out")
    while not list(tmp_path.glob("out/.ckpt/*.pt")):  # they train
        assert parent.poll() is None
        time.sleep(0.1)
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) >= 2
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs(family, timeout=30)[1]

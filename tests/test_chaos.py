"""A sweep on real processes is killed again and again, and ends with the records of one that was left in peace.

Two kills take about fifteen seconds. Before a release: SCALING_LIB_KILLS=20 python -m pytest tests/test_chaos.py
"""

import contextlib
import json
import os
import random
import runpy
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

KILLS = int(os.environ.get("SCALING_LIB_KILLS", "2"))
STEPS = max(240, 80 * KILLS)  # the more kills, the longer must be what is killed
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
    outcomes = run_sweep(plan, Path(sys.argv[1]), corpus, checkpoint_seconds=0.05)
    sys.exit(any(o.status == "failed" for o in outcomes))
"""


def start(script: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(script), str(out), str(STEPS), "2"], stderr=subprocess.DEVNULL)


def kill(what: str, parent: subprocess.Popen, rng: random.Random) -> bool:
    """SIGKILL a worker, the parent, or all of them. False where there was no worker yet to kill."""
    children, workers = [], []
    with contextlib.suppress(psutil.Error):  # it has just ended
        children = psutil.Process(parent.pid).children(recursive=True)
        workers = [child for child in children if "popen_loky" in " ".join(child.cmdline())]
    if not workers:
        return False
    whole = [psutil.Process(parent.pid), *(children if what == "both" else [])]
    for victim in [rng.choice(workers)] if what == "worker" else whole:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    return True


def records(out: Path) -> dict[str, dict]:
    """What the records say of the training; not where, when and how fast."""
    found = {}
    for path in out.glob("*.json"):
        data = json.loads(path.read_text())
        for key in ("environment", "seconds", "tokens_per_second", "sha256"):
            data.pop(key)
        found[path.name] = data
    return found


def last_kept(out: Path) -> float:
    """When a run that has not ended was last kept, so that killed it must be resumed; seconds of the clock, or 0."""
    found = [0.0]
    for path in out.glob(".ckpt/v2-*.pt"):
        with contextlib.suppress(FileNotFoundError):  # a finished run removes its checkpoint
            found.append(path.stat().st_mtime)
    return max(found)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL; the chaos is not tried")
def test_kills_lose_nothing(tmp_path, one_thread, monkeypatch):
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    peace, chaos = tmp_path / "peace", tmp_path / "chaos"
    monkeypatch.setattr(sys, "argv", [str(script), str(peace), str(STEPS), "1"])
    with pytest.raises(SystemExit, match="False"):
        runpy.run_path(str(script), run_name="__main__")
    expected = records(peace)
    assert len(expected) == 6

    rng = random.Random(1)
    wanted = [("both", "worker", "parent")[i % 3] for i in range(KILLS)]
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
        time.sleep(0.01)
        ready = time.time() > since + patience and (not waits_for_work or last_kept(chaos) > since)
        if ready and kills < KILLS and kill(wanted[kills], parent, rng):
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

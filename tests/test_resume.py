"""A real process is killed at three random steps; what it ends with is what an undisturbed one ends with."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.errors import InputError
from scaling_lib.lm.checkpoint import TrainState, load_state, save_state
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.runtime import Runtime
from scaling_lib.lm.train import train

WORKER = """
import json, sys
from pathlib import Path
from scaling_lib.lm import train as training
from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.runtime import Runtime

folder, every = Path(sys.argv[1]), float(sys.argv[2])
config = RunConfig(
    ModelConfig(2, 2, 32, 300, 32),
    TrainConfig("v2", 400, 8, 0.01, "cosine", 40, 0, 0.01, eval_tokens=4096),
    "random-walk:train_tokens=120000,val_tokens=8192",
)
corpus = load_corpus(config.corpus, 300)
keep = training.save_state
def note(path, state, runtime):
    keep(path, state, runtime)
    print(state.step, flush=True)  # the parent reads how far it has come, and kills
training.save_state = note
run = training.train(
    config, corpus, runtime=Runtime("cpu", "float32", False, 1), checkpoint_dir=folder, checkpoint_seconds=every
)
rows = [(p.step, p.train_loss, p.val_loss) for p in run.history]
print("end", json.dumps([run.val_loss, rows]), flush=True)
"""


def start(folder: Path, every: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(every)], stdout=subprocess.PIPE, text=True)


def read_end(process: subprocess.Popen) -> list:
    for line in process.stdout:
        if line.startswith("end "):
            process.wait()
            return json.loads(line[4:])
    raise AssertionError("the worker ended without a result")


@pytest.mark.slow
def test_killed_three_times_it_ends_as_if_never_stopped(tmp_path):
    undisturbed = start(tmp_path / "a", 1e9)
    expected = read_end(undisturbed)
    assert not list((tmp_path / "a").glob("*.pt"))

    rng, reached = random.Random(os.getpid()), 0
    for _ in range(3):
        process = start(tmp_path / "b", 0.05)
        target = reached + rng.randint(20, 100)
        for line in process.stdout:
            assert not line.startswith("end"), "the worker ended before it could be killed"
            assert int(line) > reached, "a resumed run went back to the beginning"
            if int(line) >= target:
                break
        time.sleep(rng.random() * 0.05)  # anywhere: in a step, in an evaluation, while writing
        process.send_signal(signal.SIGKILL)
        process.wait()
        (path,) = (tmp_path / "b").glob("*.pt")
        reached = load_state(path)[0].step - 1
    resumed = start(tmp_path / "b", 1e9)
    assert read_end(resumed) == expected


def small(steps: int = 30) -> RunConfig:
    return RunConfig(
        ModelConfig(1, 2, 16, 300, 16),
        TrainConfig("v1", steps, 8, 0.01, "constant", eval_tokens=2048),
        "uniform:train_tokens=40000,val_tokens=4096",
    )


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(small().corpus, 300)


def test_weights_and_optimizer_go_on_bit_for_bit(corpus, tmp_path):
    """Stop at step 18 by an error out of the middle, resume, and compare every tensor with the undisturbed run's."""
    exact = Runtime("cpu", "float32", False, 1)
    ends = {}
    for name, stop in (("whole", None), ("parts", 18)):
        folder = tmp_path / name
        config = small()
        if stop:
            _train_until(config, corpus, exact, folder, stop)
        state = _last_state(config, corpus, exact, folder)
        ends[name] = state
    a, b = ends["whole"], ends["parts"]
    assert a.step == b.step == 29
    assert torch.equal(a.losses, b.losses)
    assert a.val == b.val
    for key, value in a.model.items():
        assert torch.equal(value, b.model[key]), key
    for key, value in a.optimizer["state"].items():
        for part, tensor in value.items():
            assert torch.equal(tensor, b.optimizer["state"][key][part]), (key, part)


class _Stop(Exception):
    pass


def _train_until(config, corpus, runtime, folder, stop):
    from scaling_lib.lm import train as training

    keep = training.save_state

    def note(path, state, used):
        keep(path, state, used)
        if state.step == stop:
            raise _Stop

    training.save_state = note
    try:
        with pytest.raises(_Stop):
            train(config, corpus, runtime=runtime, checkpoint_dir=folder, checkpoint_seconds=0.0)
    finally:
        training.save_state = keep


def _last_state(config, corpus, runtime, folder) -> TrainState:
    run = train(config, corpus, runtime=runtime, checkpoint_dir=folder, checkpoint_seconds=0.0)
    found = load_state(folder / f"{run.run_id}.pt")  # the sweep removes it once the record is written
    assert found is not None
    return found[0]


def test_the_runtime_of_the_checkpoint_is_obeyed(corpus, tmp_path):
    exact, other = Runtime("cpu", "float32", False, 1), Runtime("cpu", "bfloat16", False, 2)
    _train_until(small(), corpus, exact, tmp_path, 10)
    resumed = train(small(), corpus, runtime=other, checkpoint_dir=tmp_path)
    assert (resumed.environment["dtype"], resumed.environment["threads"]) == ("float32", 1)
    assert resumed.val_loss == train(small(), corpus, runtime=exact).val_loss


def test_a_run_begun_on_another_device_goes_on_where_it_is(corpus, tmp_path):
    """A shared folder may come from a machine with a graphics card to one without."""
    exact = Runtime("cpu", "float32", False, 1)
    _train_until(small(), corpus, exact, tmp_path, 10)
    (path,) = tmp_path.glob("*.pt")
    state, runtime = load_state(path)
    save_state(path, state, replace(runtime, device="cuda"))
    resumed = train(small(), corpus, runtime=exact, checkpoint_dir=tmp_path)
    assert resumed.environment["device"] == "cpu"
    assert resumed.val_loss == train(small(), corpus, runtime=exact).val_loss


def test_a_damaged_checkpoint_starts_over(corpus, tmp_path):
    exact = Runtime("cpu", "float32", False, 1)
    _train_until(small(), corpus, exact, tmp_path, 10)
    (path,) = tmp_path.glob("*.pt")
    path.write_bytes(path.read_bytes()[:500])
    assert load_state(path) is None
    resumed = train(small(), corpus, runtime=exact, checkpoint_dir=tmp_path)
    assert resumed.val_loss == train(small(), corpus, runtime=exact).val_loss


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    torch.save({"step": 1, "runtime": Evil()}, tmp_path / "x.pt")
    assert load_state(tmp_path / "x.pt") is None
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    runtime = Runtime("cpu", "float32", False, 1)
    state = TrainState(3, {"w": torch.ones(3)}, {}, torch.zeros(3))
    path = tmp_path / "x.pt"
    save_state(path, state, runtime)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    state.step = 4
    with pytest.raises(InputError, match="No space left on device") as error:
        save_state(path, state, runtime)
    assert "\n" not in str(error.value)
    assert load_state(path)[0].step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]

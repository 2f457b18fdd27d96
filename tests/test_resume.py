"""A real process is killed at two random steps; what it ends with is what an undisturbed one ends with."""

import json
import os
import pickle
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
from scaling_lib.lm import train as training
from scaling_lib.lm.checkpoint import load_state, save_state
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.runtime import Runtime
from scaling_lib.lm.train import train

EXACT = Runtime("cpu", "float32", False, 1)
WORKER = """
import json, pickle, sys
from pathlib import Path
from scaling_lib.lm import train as training
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.runtime import Runtime

folder, every, config = Path(sys.argv[1]), float(sys.argv[2]), pickle.loads(bytes.fromhex(sys.argv[3]))
keep = training.save_state
def note(path, state, runtime):
    keep(path, state, runtime)
    print(state.step, flush=True)  # the parent reads how far it has come, and kills
training.save_state = note
run = training.train(
    config, load_corpus(config.corpus, config.model.vocab_size), runtime=Runtime("cpu", "float32", False, 1),
    checkpoint_dir=folder, checkpoint_seconds=every,
)
rows = [(p.step, p.train_loss, p.val_loss) for p in run.history]
print("end", json.dumps([run.val_loss, rows]), flush=True)
"""
KILLED = RunConfig(
    ModelConfig(2, 2, 32, 300, 32),
    TrainConfig("v2", 240, 8, 0.01, "cosine", 24, 0, 0.01, eval_tokens=4096),
    "random-walk:train_tokens=120000,val_tokens=8192",
)


def start(folder: Path, every: float) -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, str(folder), str(every), pickle.dumps(KILLED).hex()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_twice_it_ends_as_if_never_stopped(tmp_path, one_thread):
    run = train(KILLED, load_corpus(KILLED.corpus, 300), runtime=EXACT)
    rng, reached = random.Random(os.getpid()), 0
    for _ in range(2):
        process = start(tmp_path, 0.05)
        target = reached + rng.randint(20, 80)
        for line in process.stdout:
            assert not line.startswith("end"), "the worker ended before it could be killed"
            assert int(line) > reached, "a resumed run went back to the beginning"
            if int(line) >= target:
                break
        time.sleep(rng.random() * 0.05)  # anywhere: in a step, in an evaluation, while writing
        process.send_signal(signal.SIGKILL)
        process.wait()
        (path,) = tmp_path.glob("*.pt")
        reached = load_state(path)[0].step - 1
    end = [line for line in start(tmp_path, 1e9).stdout if line.startswith("end ")]
    assert json.loads(end[0][4:]) == [run.val_loss, [[p.step, p.train_loss, p.val_loss] for p in run.history]]


def small(steps: int = 30) -> RunConfig:
    return RunConfig(
        ModelConfig(1, 2, 16, 300, 16),
        TrainConfig("v1", steps, 8, 0.01, "constant", eval_tokens=2048),
        "uniform:train_tokens=40000,val_tokens=4096",
    )


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(small().corpus, 300)


@pytest.fixture(scope="module")
def whole(corpus):
    return train(small(), corpus, runtime=EXACT)


class _Stop(Exception):
    pass


def _train_until(config, corpus, folder, stop, monkeypatch):
    """Stop by an error out of the middle, after the checkpoint of step ``stop``."""

    def note(path, state, used):
        save_state(path, state, used)
        if state.step == stop:
            raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_state", note)
        with pytest.raises(_Stop):
            train(config, corpus, runtime=EXACT, checkpoint_dir=folder, checkpoint_seconds=0.0)


def test_weights_and_optimizer_go_on_bit_for_bit(corpus, tmp_path, monkeypatch):
    """Stopped at step 18 and resumed, every tensor is the undisturbed run's."""
    _train_until(small(), corpus, tmp_path / "parts", 18, monkeypatch)
    ends = []
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        run = train(small(), corpus, runtime=EXACT, checkpoint_dir=folder, checkpoint_seconds=0.0)
        ends.append(load_state(folder / f"{run.run_id}.pt")[0])  # the sweep removes it once the record is written
    a, b = ends
    assert a.step == b.step == 29
    assert torch.equal(a.losses, b.losses)
    assert a.val == b.val
    for key, value in a.model.items():
        assert torch.equal(value, b.model[key]), key
    for key, value in a.optimizer["state"].items():
        for part, tensor in value.items():
            assert torch.equal(tensor, b.optimizer["state"][key][part]), (key, part)


def test_a_run_goes_on_as_it_was_begun_but_where_it_is(corpus, whole, tmp_path, monkeypatch):
    """A shared folder may come from a machine with a graphics card to one without."""
    _train_until(small(), corpus, tmp_path, 10, monkeypatch)
    (path,) = tmp_path.glob("*.pt")
    state, runtime = load_state(path)
    save_state(path, state, replace(runtime, device="cuda"))
    resumed = train(small(), corpus, runtime=Runtime("cpu", "bfloat16", False, 2), checkpoint_dir=tmp_path)
    assert [resumed.environment[k] for k in ("device", "dtype", "threads")] == ["cpu", "float32", 1]
    assert resumed.val_loss == whole.val_loss


def test_a_damaged_checkpoint_is_named_and_starts_over(corpus, whole, tmp_path, monkeypatch):
    """Cut short, or with one bit in the weights that another value would make."""
    _train_until(small(), corpus, tmp_path, 10, monkeypatch)
    (path,) = tmp_path.glob("*.pt")
    content = path.read_bytes()
    weight = load_state(path)[0].model["blocks.0.attention.output.weight"].numpy().tobytes()
    at = content.index(weight) + 100
    for damaged in (content[:500], content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=path.name):
            assert load_state(path) is None
    with pytest.warns(UserWarning, match=path.name):
        run = train(small(), corpus, runtime=EXACT, checkpoint_dir=tmp_path)
    assert run.val_loss == whole.val_loss


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    torch.save({"step": 1, "runtime": Evil()}, tmp_path / "x.pt")
    with pytest.warns(UserWarning, match=r"x\.pt"):
        assert load_state(tmp_path / "x.pt") is None
    assert not (tmp_path / "ran").exists()

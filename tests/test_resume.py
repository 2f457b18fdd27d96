"""A run that was stopped and goes on ends as an undisturbed one does; what is no whole checkpoint is not used."""

import os
from dataclasses import replace

import pytest
import torch

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.lm import train as training
from scaling_lib.lm.checkpoint import load_state, save_state
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.runtime import Runtime
from scaling_lib.lm.train import train

EXACT = Runtime("cpu", "float32", False, 1)


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

"""One model trained by several processes: torchrun on two Gloo processes against one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scaling_lib.errors import InputError
from scaling_lib.lm.group import ALONE, Group
from scaling_lib.runs import read_run

TEXT = "random-walk:train_tokens=60000,val_tokens=8192"
COMMAND = [
    "run", "--mode", "demo", "--recipe", "v2", "--sizes", "1", "--max-steps", "20", "--corpus", TEXT,
    "--vocab-size", "300", "--device", "cpu", "--dtype", "float32", "--no-compile",
]  # fmt: skip


def test_alone_nothing_is_exchanged():
    rows = torch.arange(12).reshape(4, 3)
    assert ALONE.leads
    assert torch.equal(ALONE.share(rows), rows)
    assert ALONE.agree({"a": 1}) == {"a": 1}
    assert ALONE.mean(torch.tensor(2.0)).item() == 2

    def loss(x, y):
        return x

    assert ALONE.loss_function(loss, torch.nn.Linear(1, 1)) is loss


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_shares_are_the_batch(size):
    rows = torch.randn(8, 5)
    assert torch.equal(torch.cat([Group(rank, size).share(rows) for rank in range(size)]), rows)
    assert [Group(rank, size).leads for rank in range(size)] == [True] + [False] * (size - 1)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="8 sequences does not divide among 3 processes"):
        Group(0, 3).share(torch.zeros(8, 2))


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(tmp_path: Path):
    """The first 20 losses, at the same global batch, in float32; a second call finds the run done."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone, together = tmp_path / "alone", tmp_path / "together"
    one = [sys.executable, "-m", "scaling_lib", *COMMAND, "--workers", "1", "--out", str(alone)]
    subprocess.run(one, check=True, capture_output=True, env=env, timeout=300)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = [*torchrun, "-m", "scaling_lib", *COMMAND, "--out", str(together)]
    done = subprocess.run(two, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("records: ") == 1  # one process speaks
    (a,), (b,) = (sorted(folder.glob("v2*.json")) for folder in (alone, together))
    assert a.name == b.name
    first, second = read_run(a), read_run(b)
    assert second.environment["processes"] == 2
    assert [p.step for p in first.history] == [p.step for p in second.history] == list(range(21))
    for x, y in zip(first.history, second.history, strict=True):
        assert y.train_loss == pytest.approx(x.train_loss, abs=1e-4)
    assert second.val_loss == pytest.approx(first.val_loss, abs=1e-4)
    before = b.read_bytes()
    again = subprocess.run(two, capture_output=True, text=True, env=env, timeout=300)
    assert again.returncode == 0, again.stderr
    assert b.read_bytes() == before

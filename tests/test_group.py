"""One model trained by several processes: torchrun on two Gloo processes against one process."""

import os
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from scaling_lib.cli import main
from scaling_lib.errors import InputError
from scaling_lib.lm import group
from scaling_lib.lm.group import ALONE, Group
from scaling_lib.runs import read_run
from scaling_lib.sweep import cost

TEXT = "random-walk:train_tokens=60000,val_tokens=8192"
COMMAND = [
    "run", "--mode", "demo", "--recipe", "v2", "--sizes", "2", "--max-steps", "20", "--corpus", TEXT,
    "--vocab-size", "300", "--device", "cpu", "--dtype", "float32", "--no-compile",
]  # fmt: skip


def test_alone_nothing_is_exchanged():
    rows = torch.arange(12).reshape(4, 3)
    assert ALONE.leads
    assert torch.equal(ALONE.share(rows), rows)
    assert ALONE.agree({"a": 1}) == {"a": 1}
    assert ALONE.mean(torch.tensor(2.0)).item() == 2
    assert ALONE.loss_function(torch.add, torch.nn.Linear(1, 1)) is torch.add


def test_a_process_whose_companions_never_come_is_told_in_time(monkeypatch):
    monkeypatch.setattr(group, "MEETING", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="torchrun"):
        group.join_group("cpu")


def test_the_shares_are_the_batch():
    rows = torch.randn(8, 5)
    for size in (2, 4):
        assert torch.equal(torch.cat([Group(rank, size).share(rows) for rank in range(size)]), rows)
    assert [Group(rank, 2).leads for rank in range(2)] == [True, False]
    with pytest.raises(InputError, match="8 sequences does not divide among 3 processes"):
        Group(0, 3).share(rows)


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(tmp_path, monkeypatch):
    """The first 20 losses, at the same global batch, in float32; a run that is recorded is not trained again."""
    monkeypatch.setattr(cost, "calibrate", lambda plan, budget=0.0: {c.model: 1e-5 for c in plan.cells})
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main([*COMMAND, "--workers", "1", "--out", str(alone)]) == 0
    names = [path.name for path in sorted(alone.glob("v2*.json"))]
    assert len(names) == 2
    together.mkdir()
    kept = Path(shutil.copy2(alone / names[1], together))
    before = kept.stat().st_mtime_ns
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = [*torchrun, "-m", "scaling_lib", *COMMAND, "--out", str(together)]
    done = subprocess.run(two, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("records: ") == 1  # one process speaks
    assert kept.stat().st_mtime_ns == before
    first, second = (read_run(folder / names[0]) for folder in (alone, together))
    assert second.environment["processes"] == 2
    assert [p.step for p in first.history] == [p.step for p in second.history] == list(range(21))
    for x, y in zip(first.history, second.history, strict=True):
        assert y.train_loss == pytest.approx(x.train_loss, abs=1e-4)
    assert second.val_loss == pytest.approx(first.val_loss, abs=1e-4)

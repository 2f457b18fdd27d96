"""What several test files share: a cache of their own, small corpora, and records made without training."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.lm.corpus import Corpus, load_corpus
from scaling_lib.runs import Point, Run

WALK = "random-walk:train_tokens=60000,val_tokens=8192"
UNIFORM = "uniform:train_tokens=60000,val_tokens=8192"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of corpora for this session, for its processes too: the user's is neither needed nor touched."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"  # one for all workers
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_LIB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def walk(cache: Path) -> Corpus:
    return load_corpus(WALK, 257)


@pytest.fixture(scope="session")
def uniform(cache: Path) -> Corpus:
    return load_corpus(UNIFORM, 257)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order: what is equal bit for bit is equal only so."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of made sentences, about 60 kB in 15 documents."""
    words = ["the", "of", "and", "cat", "dog", "house", "river", "walks", "sees", "green", "old", "very", "then"]
    lines = []
    for i in range(1500):
        chosen = [words[(i * k + k * k + i // 7) % len(words)] for k in range(2, 11)]
        lines.append(" ".join(chosen) + f" {i}.\n" + ("\n" if i % 10 == 9 else ""))
    path = tmp_path_factory.mktemp("text") / "small.txt"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def no_figure_left_open() -> Iterator[None]:
    """Figures that a test leaves open would add up, and matplotlib warns from the twentieth on."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Make a record without training: ``make_run("v2", d_model=64, steps=300, loss=3.2)``."""

    def make(
        recipe: str = "v2",
        *,
        d_model: int = 32,
        steps: int = 100,
        loss: float | None = 4.0,
        seed: int = 0,
        lr: float = 1e-3,
        fingerprint: str = "f" * 64,
        vocab_size: int = 512,
        epochs: float = 0.1,
        seconds: float = 2.0,
        **others: Any,
    ) -> Run:
        model = ModelConfig(2, 2, d_model, vocab_size, 64)
        train = TrainConfig(recipe, steps, 16, lr, "constant", seed=seed)
        last = 9.99 if loss is None else loss + 0.25
        return Run(
            **{
                "run_id": f"{recipe}-{model.name}-s{steps}-r{seed}",
                "status": "diverged" if loss is None else "finished",
                "config": RunConfig(model, train, "made"),
                "corpus": {"name": "made", "fingerprint": fingerprint, "vocab_size": vocab_size, "n_val_tokens": 4096},
                "history": (Point(0, 0, lr, 6.24, 6.25), Point(steps, steps * 1024, lr, last, loss)),
                "val_loss": loss,
                "val_loss_se": None if loss is None else 0.02,
                "bits_per_byte": None if loss is None else loss / 2,
                "epochs": epochs,
                "environment": {"device": "cpu", "threads": 1},
                "seconds": seconds,
                "tokens_per_second": 1000.0,
                **others,
            }
        )

    return make


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("MPLBACKEND", "agg")  # no window, here and in subprocesses
    # As in a shell's background, or under nohup: subprocesses would inherit it.
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)

"""What a run writes down: the loss of every update, a validation curve, and its record."""

import math
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaling_lib.config import RunConfig, run_id
from scaling_lib.lm.batches import epochs_seen, val_windows
from scaling_lib.lm.bpe import token_bytes
from scaling_lib.lm.checkpoint import TrainState
from scaling_lib.lm.corpus import Corpus, load_tokenizer
from scaling_lib.lm.evaluate import clustered_mean, token_losses
from scaling_lib.lm.group import Group
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.runs import Point, Run

CURVE_TOKENS = 8_192  # validation tokens for a point of a curve; the final loss is measured on eval_tokens
PROGRESS_SECONDS = 0.5
GROUP_CHECK_STEPS = 20


class Log:
    """The losses of a run so far.

    ``losses``, float32 (max_steps,), stays on the device: reading it at every step would stall a GPU. ``val`` holds
    the validation curve as (step, loss). ``diverged`` is set soon after a loss was no finite number.
    """

    def __init__(
        self,
        config: RunConfig,
        corpus: Corpus,
        runtime: Runtime,
        group: Group,
        state: TrainState | None,
        on_progress: Callable[..., object] | None,
    ) -> None:
        self.config, self.corpus, self.runtime = config, corpus, runtime
        self.group, self.on_progress = group, on_progress
        self.losses = torch.full((config.train.max_steps,), float("nan"), device=runtime.device)
        self.val: list[tuple[int, float]] = []
        self.start_step, self.seconds_before, self.diverged, self.tokens_per_second = 0, 0.0, False, 0.0
        if state is not None:
            self.losses[: state.step] = state.losses.to(runtime.device)
            self.val, self.start_step, self.seconds_before = state.val, state.step, state.seconds
        self.began = self._told_at = time.perf_counter()
        self._told = self.start_step  # steps that have been told of
        self._curve = _windows(corpus, config, CURVE_TOKENS)
        self._curve_steps = set(curve_steps(config.train.max_steps))

    @property
    def seconds(self) -> float:
        """Spent on this run, before an interruption too."""
        return self.seconds_before + time.perf_counter() - self.began

    def validate(self, model: GPT, step: int) -> None:
        """Add a point to the validation curve where one is due: before update ``step``, and once only."""
        if self.group.leads and step in self._curve_steps and (not self.val or self.val[-1][0] < step):
            self.val.append((step, _measure(model, self._curve, self.runtime)[0]))

    def add(self, step: int, loss: Tensor) -> None:
        """Take the loss of update ``step``, a scalar on the device; twice a second look at it, and tell."""
        self.losses[step] = self.group.mean(loss)
        now, max_steps = time.perf_counter(), self.config.train.max_steps
        # Several processes must stop at the same step: they count steps, for their clocks differ.
        due = now - self._told_at > PROGRESS_SECONDS if self.group.size == 1 else (step + 1) % GROUP_CHECK_STEPS == 0
        if not due and step + 1 < max_steps:
            return
        recent = float(self.losses[self._told : step + 1].mean())
        self.diverged = not math.isfinite(recent)
        self.tokens_per_second = self._speed(step + 1 - self.start_step, self.began)
        if self.on_progress and self.group.leads and not self.diverged:
            speed = self._speed(step + 1 - self._told, self._told_at)
            self.on_progress(done=(step + 1) / max_steps, loss=recent, tokens_per_second=speed)
        self._told, self._told_at = step + 1, now

    def _speed(self, steps: int, since: float) -> float:
        """Tokens per second of this call's latest steps."""
        tokens = steps * self.config.train.batch_size * self.config.model.seq_len
        return tokens / max(time.perf_counter() - since, 1e-9)

    def final_loss(self, model: GPT) -> tuple[float, float]:
        """The validation loss on ``eval_tokens`` and its standard error; the curve gets its last point."""
        self.val.append((self.config.train.max_steps, _measure(model, self._curve, self.runtime)[0]))
        return _measure(model, _windows(self.corpus, self.config, self.config.train.eval_tokens), self.runtime)

    def record(self, loss: tuple[float, float] | None, *, points: int, branched_at: int) -> Run:
        """The finished record; ``loss`` is None for a run that diverged."""
        corpus = self.corpus
        config = self.config
        if config.corpus.startswith(("text:", "hub:")):
            config = replace(config, corpus=corpus.describe()["name"])  # of a path only the last part
        diverged = loss is None or not math.isfinite(loss[0])
        val_loss, val_loss_se = loss or (None, None)
        return Run(
            run_id=run_id(config, corpus.fingerprint),
            status="diverged" if diverged else "finished",
            config=config,
            corpus=corpus.describe(),
            history=_history(config, self.losses.cpu().numpy(), self.val, points),
            val_loss=val_loss,
            val_loss_se=val_loss_se,
            bits_per_byte=_bits_per_byte(val_loss, corpus, config),
            epochs=epochs_seen(len(corpus.train), config.n_tokens, config.model.seq_len),
            environment=_environment(self.runtime, branched_at, self.group.size),
            seconds=round(self.seconds, 3),
            tokens_per_second=round(self.tokens_per_second),
        )


Windows = tuple[np.ndarray, np.ndarray, np.ndarray]  # inputs, targets, document of each target


def _windows(corpus: Corpus, config: RunConfig, tokens: int) -> Windows:
    return val_windows(corpus, config.model.seq_len, min(tokens, config.train.eval_tokens))


def _measure(model: GPT, windows: Windows, runtime: Runtime) -> tuple[float, float]:
    x, y, document = windows
    return clustered_mean(token_losses(model, x, y, runtime), document)


def curve_steps(max_steps: int) -> list[int]:
    """Steps at which the validation curve is measured: 0, 10, 20, 40, ... whatever the length of the run.

    A grid that did not depend on ``max_steps`` lets runs that share a trunk share its curve.
    """
    steps, step = [0], 10
    while step < max_steps:
        steps.append(step)
        step *= 2
    return steps


def _history(config: RunConfig, losses: np.ndarray, val: list[tuple[int, float]], points: int) -> tuple[Point, ...]:
    """Thin the loss of every step to about ``points`` rows, each the mean since the row before."""
    bad = np.flatnonzero(~np.isfinite(losses))
    last = int(bad[0]) if len(bad) else len(losses)  # a diverged run: up to its first bad step
    measured = {step: loss for step, loss in val if step <= last}
    even = np.linspace(0, last, min(points, last + 1)).round().astype(int).tolist()
    steps = sorted({*even, *measured})
    tokens_per_step = config.train.batch_size * config.model.seq_len
    rows, before = [], 0
    for step in steps:
        loss = losses[before:step].mean() if step else (losses[0] if last else float("nan"))
        lr = learning_rate(max(step - 1, 0), config.train)
        rows.append(Point(step, step * tokens_per_step, lr, float(loss), measured.get(step)))
        before = step
    if len(bad):
        rows.append(Point(last + 1, (last + 1) * tokens_per_step, learning_rate(last, config.train), None))
    return tuple(rows)


def _bits_per_byte(val_loss: float | None, corpus: Corpus, config: RunConfig) -> float | None:
    """By the bytes of the very tokens that the loss was measured on: a sample has not quite the bytes of the whole."""
    if val_loss is None or corpus.val_bytes_per_token is None:
        return None
    _, targets, _ = _windows(corpus, config, config.train.eval_tokens)
    n_bytes = token_bytes(load_tokenizer(corpus))[targets].sum()
    return float(val_loss / math.log(2) * targets.size / n_bytes)


def _environment(runtime: Runtime, branched_at: int, processes: int) -> dict[str, Any]:
    """What the result may depend on beside its configuration."""
    device = torch.cuda.get_device_name() if runtime.device == "cuda" else platform.machine()
    return {
        **runtime.as_dict(),
        "device_name": device,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "system": platform.system(),
        "branched_at_step": branched_at,
        **({"processes": processes} if processes > 1 else {}),
    }

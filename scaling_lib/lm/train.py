"""The training loop: one run from its configuration to its record."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaling_lib.config import RunConfig, run_id, trunk_id
from scaling_lib.lm.batches import batch, epochs_seen, val_windows
from scaling_lib.lm.checkpoint import TrainState, load_state, save_state
from scaling_lib.lm.corpus import Corpus
from scaling_lib.lm.evaluate import clustered_mean, token_losses
from scaling_lib.lm.group import ALONE, Group
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime, choose_runtime
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.runs import Point, Run

CURVE_TOKENS = 8_192  # validation tokens for a point of a curve; the final loss is measured on eval_tokens
PROGRESS_SECONDS = 0.5
GROUP_CHECK_STEPS = 20


@dataclass(frozen=True)
class Progress:
    """What a running training says of itself: the mean loss since it last spoke, and its speed."""

    step: int
    max_steps: int
    loss: float
    tokens_per_second: float


def train(
    config: RunConfig,
    corpus: Corpus,
    *,
    runtime: Runtime | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_seconds: float = 60.0,
    history_points: int = 60,
    on_progress: Callable[[Progress], None] | None = None,
    group: Group = ALONE,
) -> Run:
    """Train one model and return its record.

    With a ``checkpoint_dir`` the state is written there every ``checkpoint_seconds``, and a run that was
    killed goes on from it to the same final loss (bit for bit on one CPU thread). A ``wsd`` run also leaves
    its state where its decay begins, and starts from the longest such trunk that a shorter run has left.

    Parameters
    ----------
    config, corpus : what to train, on what; ``corpus`` must have the vocabulary of ``config.model``.
    runtime : device, dtype, compilation, threads; chosen by ``choose_runtime`` when None. A checkpoint's own
        goes before it.
    history_points : how many rows of the training curve the record keeps.
    on_progress : called about twice a second.
    group : the processes that share every batch of this run; all call ``train`` alike, the leader writes files.

    Raises
    ------
    InputError
        When a checkpoint cannot be written. A loss that becomes NaN raises nothing: the record says
        ``diverged``.
    """
    name = run_id(config, corpus.fingerprint)
    checkpoint = checkpoint_dir / f"{name}.pt" if checkpoint_dir else None
    state, runtime, branched_at = _starting_point(config, corpus, runtime, checkpoint, group)
    torch.set_num_threads(runtime.threads)

    model = GPT(config.model, seed=config.train.seed).to(runtime.device)
    optimizer = _optimizer(model, config, runtime)
    losses = torch.full((config.train.max_steps,), float("nan"), device=runtime.device)
    if state is not None:
        model.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        losses[: state.step] = state.losses.to(runtime.device)
    start_step, val, seconds_before = (state.step, state.val, state.seconds) if state else (0, [], 0.0)
    state = None  # free the copy of the weights

    if runtime.compile:
        torch.compiler.reset()  # or the eighth model of a process would quietly not be compiled
    loss_of = torch.compile(model.loss, dynamic=False) if runtime.compile else model.loss
    loss_of = group.loss_function(loss_of, model)
    curve = _windows(corpus, config, CURVE_TOKENS)
    curve_steps = set(_curve_steps(config.train.max_steps))
    tokens_per_step = config.train.batch_size * config.model.seq_len

    def capture(step: int) -> TrainState:
        seconds = seconds_before + time.perf_counter() - began
        return TrainState(step, model.state_dict(), optimizer.state_dict(), losses[:step], val, seconds)

    began = spoke = saved = time.perf_counter()
    spoke_at = start_step
    diverged = False
    for step in range(start_step, config.train.max_steps):
        if step in curve_steps and (not val or val[-1][0] < step) and group.leads:
            val.append((step, _measure(model, curve, runtime)[0]))
        if step == config.train.decay_start and config.train.schedule == "wsd" and checkpoint_dir and group.leads:
            save_state(_trunk_path(checkpoint_dir, config, corpus, step), capture(step), runtime)

        x, y = _batch(corpus, config, step, runtime.device, group)
        with runtime.autocast():
            loss = loss_of(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
        for parameters in optimizer.param_groups:
            parameters["lr"] = learning_rate(step, config.train)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses[step] = group.mean(loss.detach())  # stays on the device: reading it would stall a GPU at every step

        now = time.perf_counter()
        # Several processes must stop at the same step: they count steps, for their clocks differ.
        due = now - spoke > PROGRESS_SECONDS if group.size == 1 else (step + 1) % GROUP_CHECK_STEPS == 0
        if due or step + 1 == config.train.max_steps:
            recent = float(losses[spoke_at : step + 1].mean())
            if not math.isfinite(recent):
                diverged = True
                break
            if on_progress and group.leads:
                speed = (step + 1 - spoke_at) * tokens_per_step / max(now - spoke, 1e-9)
                on_progress(Progress(step + 1, config.train.max_steps, recent, speed))
            spoke, spoke_at = now, step + 1
        if checkpoint and group.leads and now - saved > checkpoint_seconds and step + 1 < config.train.max_steps:
            save_state(checkpoint, capture(step + 1), runtime)
            saved = time.perf_counter()

    trained_seconds = time.perf_counter() - began
    val_loss = val_loss_se = None
    if not diverged:
        final = _windows(corpus, config, config.train.eval_tokens)
        val_loss, val_loss_se = group.agree(_measure(model, final, runtime) if group.leads else None)
        if group.leads:
            val.append((config.train.max_steps, _measure(model, curve, runtime)[0]))
        diverged = not math.isfinite(val_loss)
    return Run(
        run_id=name,
        status="diverged" if diverged else "finished",
        config=config,
        corpus=corpus.describe(),
        history=_history(config, losses.cpu().numpy(), val, history_points),
        val_loss=val_loss,
        val_loss_se=val_loss_se,
        bits_per_byte=_bits_per_byte(val_loss, corpus),
        epochs=epochs_seen(len(corpus.train), config.n_tokens, config.model.seq_len),
        environment=_environment(runtime, branched_at, group.size),
        seconds=round(seconds_before + time.perf_counter() - began, 3),
        tokens_per_second=round((step + 1 - start_step) * tokens_per_step / max(trained_seconds, 1e-9)),
    )


def _starting_point(
    config: RunConfig, corpus: Corpus, runtime: Runtime | None, checkpoint: Path | None, group: Group
) -> tuple[TrainState | None, Runtime, int]:
    """The run's own checkpoint, else the longest trunk that ends before this run's decay, else nothing.

    In a group the leader chooses, and where a process cannot read what it chose, all begin at the beginning.
    """
    wanted = runtime or choose_runtime(config)
    if checkpoint is None:
        return None, wanted, 0
    for path, step in group.agree(_candidates(config, corpus, checkpoint) if group.leads else None):
        found = load_state(path, wanted.device)
        if step:  # a trunk: shared only if computed alike
            found = found if found and found[1] == wanted else None
        if group.all_true(found is not None) and found is not None:
            if step:
                found[0].seconds = 0.0  # the shorter run has counted them
                return found[0], wanted, step
            # Computed as it was begun, but where we are: a shared folder's next machine may have no GPU.
            return found[0], replace(found[1], device=wanted.device), 0
    return None, wanted, 0


def _candidates(config: RunConfig, corpus: Corpus, checkpoint: Path) -> list[tuple[Path, int]]:
    """Files to start from, best first, with the step of a trunk and 0 for the run's own."""
    found = [(checkpoint, 0)] if checkpoint.exists() else []
    if config.train.schedule == "wsd":
        stem = trunk_id(config, corpus.fingerprint)
        trunks = sorted((int(path.stem.rsplit("-", 1)[1]), path) for path in checkpoint.parent.glob(f"{stem}-*.pt"))
        found += [(path, step) for step, path in reversed(trunks) if 0 < step <= config.train.decay_start]
    return found


def _trunk_path(folder: Path, config: RunConfig, corpus: Corpus, step: int) -> Path:
    return folder / f"{trunk_id(config, corpus.fingerprint)}-{step}.pt"


def _optimizer(model: GPT, config: RunConfig, runtime: Runtime) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, since shrinking a gain towards 0 regularises nothing."""
    train = config.train
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    gains = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": train.weight_decay}, {"params": gains, "weight_decay": 0.0}],
        lr=train.lr,
        betas=(train.beta1, train.beta2),
        fused=runtime.device in ("cpu", "cuda"),
    )


def _batch(
    corpus: Corpus, config: RunConfig, step: int, device: str, group: Group
) -> tuple[torch.Tensor, torch.Tensor]:
    train, shape = config.train, (config.train.batch_size, config.model.seq_len)
    x, y = batch(corpus.train, train.seed, step, *shape, corpus.unit)
    return group.share(torch.from_numpy(x)).to(device), group.share(torch.from_numpy(y)).to(device)


Windows = tuple[np.ndarray, np.ndarray, np.ndarray]  # inputs, targets, document of each target


def _windows(corpus: Corpus, config: RunConfig, tokens: int) -> Windows:
    return val_windows(corpus, config.model.seq_len, min(tokens, config.train.eval_tokens))


def _measure(model: GPT, windows: Windows, runtime: Runtime) -> tuple[float, float]:
    x, y, document = windows
    return clustered_mean(token_losses(model, x, y, runtime), document)


def _curve_steps(max_steps: int) -> list[int]:
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


def _bits_per_byte(val_loss: float | None, corpus: Corpus) -> float | None:
    if val_loss is None or corpus.val_bytes_per_token is None:
        return None
    return val_loss / math.log(2) / corpus.val_bytes_per_token


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

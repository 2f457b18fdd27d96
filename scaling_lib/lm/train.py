"""The training loop: one run from its configuration to its record."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from scaling_lib.config import RunConfig, TrainConfig
from scaling_lib.lm.batches import batch
from scaling_lib.lm.checkpoint import TrainState, own_path, save_state, starting_point, trunk_path
from scaling_lib.lm.corpus import Corpus
from scaling_lib.lm.group import ALONE, Group
from scaling_lib.lm.model import GPT
from scaling_lib.lm.record import Log
from scaling_lib.lm.runtime import Runtime, keep_freed_memory
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.runs import Run


def train(
    config: RunConfig,
    corpus: Corpus,
    *,
    runtime: Runtime | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_seconds: float = 60.0,
    history_points: int = 60,
    on_progress: Callable[..., object] | None = None,
    group: Group = ALONE,
) -> Run:
    """Train one model and return its record.

    With a ``checkpoint_dir`` the state is written there every ``checkpoint_seconds``, and a run that was
    killed goes on from it to the same final loss (bit for bit on one CPU thread). A ``wsd`` run also leaves
    its state where its decay begins, and starts from the longest such trunk that a shorter run has left.

    Parameters
    ----------
    config, corpus
        What to train, on what; ``corpus`` must have the vocabulary of ``config.model``.
    runtime
        Device, dtype, compilation, threads, micro-batch; chosen by ``choose_runtime`` when None. A checkpoint's
        own goes before it.
    checkpoint_dir, checkpoint_seconds
        Where the state is written, and how often.
    history_points
        How many rows of the training curve the record keeps.
    on_progress
        Called about twice a second with ``done`` (a share), ``loss`` (the mean since it was last called) and
        ``tokens_per_second``.
    group
        The processes that share every batch of this run; all call ``train`` alike, the leader writes files.

    Raises
    ------
    InputError
        When a checkpoint cannot be written. A loss that becomes NaN raises nothing: the record says
        ``diverged``.
    """
    t, fingerprint = config.train, corpus.fingerprint
    state, runtime, branched_at = starting_point(config, fingerprint, runtime, checkpoint_dir, group)
    torch.set_num_threads(runtime.threads)
    keep_freed_memory()
    model = GPT(config.model, seed=t.seed).to(runtime.device)
    optimizer = make_optimizer(model, t)
    if state is not None:
        model.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
    log = Log(config, corpus, runtime, group, state, on_progress)
    state = None  # free the copy of the weights
    loss_of = _loss_function(model, runtime, group)
    folder = checkpoint_dir if group.leads else None
    save_at = time.perf_counter() + checkpoint_seconds

    def save(path: Path, step: int) -> None:
        state = TrainState(step, model.state_dict(), optimizer.state_dict(), log.losses[:step], log.val, log.seconds)
        save_state(path, state, runtime)

    for step, (x, y) in _batches(config, corpus, range(log.start_step, t.max_steps), runtime, group):  # (B, T) each
        log.validate(model, step)
        if folder and t.schedule == "wsd" and step == t.decay_start:
            save(trunk_path(folder, config, fingerprint, step), step)

        loss = update(loss_of, optimizer, x, y, learning_rate(step, t), clip=t.grad_clip, runtime=runtime)

        log.add(step, loss)
        if log.diverged:
            break
        if folder and time.perf_counter() > save_at and step + 1 < t.max_steps:
            save(own_path(folder, config, fingerprint), step + 1)
            save_at = time.perf_counter() + checkpoint_seconds

    final = None if log.diverged else group.agree(log.final_loss(model) if group.leads else None)
    return log.record(final, points=history_points, branched_at=branched_at)


def make_optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, since shrinking a gain towards 0 regularises nothing."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    gains = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": train.weight_decay}, {"params": gains, "weight_decay": 0.0}],
        lr=train.lr,
        betas=(train.beta1, train.beta2),
        fused=matrices[0].device.type in ("cpu", "cuda"),
    )


def update(
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    rate: float,
    *,
    clip: float,
    runtime: Runtime,
) -> Tensor:
    """One update on one batch: forward, backward, clip, step. Returns the mean loss, still on the device.

    A batch larger than ``runtime.micro_batch`` is taken in parts whose gradients add up to those of the whole.
    ``loss_of`` takes inputs and targets, int64 (B, T), to the mean loss in nats per token; ``y`` is ``x`` one token
    later; ``rate`` is the learning rate, and ``clip`` the norm to which a longer gradient is shortened.
    """
    parts = list(zip(x.split(runtime.micro_batch or len(x)), y.split(runtime.micro_batch or len(y)), strict=True))
    total = torch.zeros((), device=x.device)
    for number, (inputs, targets) in enumerate(parts, 1):
        # Gradients of several processes are exchanged once, with the last part.
        wait = getattr(loss_of, "no_sync", contextlib.nullcontext) if number < len(parts) else contextlib.nullcontext
        with wait():
            with runtime.autocast():
                loss = loss_of(inputs, targets) * (len(inputs) / len(x))
            loss.backward()
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _loss_function(model: GPT, runtime: Runtime, group: Group) -> Callable[[Tensor, Tensor], Tensor]:
    """The model's loss, compiled if the runtime says so, its gradients averaged over the group."""
    if runtime.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what is not in bf16
    if runtime.compile:
        torch.compiler.reset()  # or the eighth model of a process would quietly not be compiled
    return group.loss_function(torch.compile(model.loss, dynamic=False) if runtime.compile else model.loss, model)


def _batches(
    config: RunConfig, corpus: Corpus, steps: Iterable[int], runtime: Runtime, group: Group
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """This process's part of the batch of every step.

    A GPU computes while the processor goes on, so the next batch, from pinned memory, is copied meanwhile.
    """
    size, length = config.train.batch_size, config.model.seq_len
    for step in steps:
        rows = batch(corpus.train, config.train.seed, step, size, length, corpus.unit)
        x, y = (group.share(torch.from_numpy(part)) for part in rows)
        if runtime.device == "cuda":
            x, y = x.pin_memory(), y.pin_memory()
        yield step, (x.to(runtime.device, non_blocking=True), y.to(runtime.device, non_blocking=True))

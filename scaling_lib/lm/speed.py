"""How fast this machine trains a model: a few real steps on random tokens."""

from __future__ import annotations

import platform
import time

import torch

from scaling_lib.config import RunConfig
from scaling_lib.counting import training_flops
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import ROUGH_FLOPS_PER_SECOND, Runtime

WARM_UP_STEPS = 1  # the first step pays for memory that later ones reuse


def product_gflops(device: str, dtype: str, budget_seconds: float = 1.0) -> float:
    """Billion floating point operations a second of a large matrix product: what a model can at best reach."""
    kind = getattr(torch, dtype)
    size = 8192 if device == "cuda" else 2048
    a = torch.randn(size, size, device=device).to(kind)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < budget_seconds:
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # which waits for the product
        times.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(times)[len(times) // 2] / 1e9


def device_name(device: str) -> str:
    """The processor's or the GPU's name, as far as the system tells."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def can_be_timed(config: RunConfig, runtime: Runtime, budget_seconds: float) -> bool:
    """Whether three steps of one sequence each would take little more than the budget, by a rough rate."""
    flops = 3 * training_flops(config.model, config.model.seq_len)
    return flops / ROUGH_FLOPS_PER_SECOND[runtime.device] < 2 * budget_seconds


def seconds_per_token(config: RunConfig, runtime: Runtime, budget_seconds: float = 1.0) -> float:
    """Time training steps of ``config``: the median, over at least two, of seconds a token.

    A batch that would take more than a fifth of the budget is cut to fewer sequences, so that asking what a model
    for a cluster would cost does not take a laptop's memory. Eager even where the run would be compiled, since
    compiling takes longer than the measurement: an upper estimate there.
    """
    torch.set_num_threads(runtime.threads)
    sequence = training_flops(config.model, config.model.seq_len)
    affordable = int(ROUGH_FLOPS_PER_SECOND[runtime.device] * budget_seconds / 5 / sequence)
    rows = max(1, min(config.train.batch_size, affordable))
    model = GPT(config.model).to(runtime.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=runtime.device in ("cpu", "cuda"))
    tokens = torch.randint(config.model.vocab_size, (rows, config.model.seq_len), device=runtime.device)
    passes: list[float] = []
    updates: list[float] = []
    began = time.perf_counter()
    while len(passes) < WARM_UP_STEPS + 2 or time.perf_counter() - began < budget_seconds:
        start = time.perf_counter()
        with runtime.autocast():
            loss = model.loss(tokens, tokens)
        loss.backward()
        _wait(runtime.device)
        passes.append(time.perf_counter() - start)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(runtime.device)
        updates.append(time.perf_counter() - start - passes[-1])
    # An update costs the same for a cut batch as for a whole one: it is shared by all tokens of the whole.
    whole = config.train.batch_size * config.model.seq_len
    return _median(passes) / tokens.numel() + _median(updates) / whole


def _median(times: list[float]) -> float:
    counted = sorted(times[WARM_UP_STEPS:])
    return counted[len(counted) // 2]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

"""How fast this machine trains a model: a few real steps on random tokens."""

import platform
import time
from collections.abc import Callable

import torch

from scaling_lib.config import RunConfig
from scaling_lib.counting import training_flops
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import ROUGH_FLOPS_PER_SECOND, Runtime, keep_freed_memory
from scaling_lib.lm.train import make_optimizer, update


def product_gflops(device: str, dtype: str, budget_seconds: float = 1.0) -> float:
    """Billion floating point operations a second of a large matrix product: what a model can at best reach."""
    size = 8192 if device == "cuda" else 2048
    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    return 2 * size**3 / _median(lambda: a @ a, device, budget_seconds) / 1e9


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
    keep_freed_memory()
    sequence = training_flops(config.model, config.model.seq_len)
    affordable = int(ROUGH_FLOPS_PER_SECOND[runtime.device] * budget_seconds / 5 / sequence)
    rows = max(1, min(config.train.batch_size, affordable))
    model = GPT(config.model).to(runtime.device)
    optimizer = make_optimizer(model, config.train)
    tokens = torch.randint(config.model.vocab_size, (rows, config.model.seq_len), device=runtime.device)

    def step() -> None:
        update(model.loss, optimizer, tokens, tokens, 1e-4, clip=config.train.grad_clip, runtime=runtime)

    seconds = _median(step, runtime.device, budget_seconds)
    if rows == config.train.batch_size:
        return seconds / tokens.numel()
    # The optimizer's part costs the same for a cut batch as for a whole one: it is shared by all tokens of the whole.
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    own = _median(optimizer.step, runtime.device, budget_seconds / 5)
    return max(seconds - own, 0.0) / tokens.numel() + own / (config.train.batch_size * config.model.seq_len)


def _median(action: Callable[[], object], device: str, budget_seconds: float) -> float:
    """Seconds that ``action`` takes, the first time left out: it pays for memory that later ones reuse."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < budget_seconds:
        start = time.perf_counter()
        action()
        if device != "cpu":
            getattr(torch, device).synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[(len(times) - 1) // 2]

"""How fast this machine trains a model: a few real steps on random tokens."""

from __future__ import annotations

import time

import torch

from scaling_lib.config import RunConfig
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime


def seconds_per_step(config: RunConfig, runtime: Runtime, budget_seconds: float = 1.0) -> float:
    """Time one training step of ``config`` in seconds: the median of as many as fit into the budget.

    Eager even where the run would be compiled, since compiling takes longer than the measurement: an upper
    estimate there.
    """
    torch.set_num_threads(runtime.threads)
    model = GPT(config.model).to(runtime.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=runtime.device in ("cpu", "cuda"))
    shape = (config.train.batch_size, config.model.seq_len)
    tokens = torch.randint(config.model.vocab_size, shape, device=runtime.device)
    times: list[float] = []
    began = time.perf_counter()
    # The first step pays for memory that later steps reuse, and is left out of the median.
    while len(times) < 3 or time.perf_counter() - began < budget_seconds:
        start = time.perf_counter()
        with runtime.autocast():
            loss = model.loss(tokens, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if runtime.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[len(times[1:]) // 2]

"""Training speed and memory against Hugging Face transformers' GPT-2 of the same shape.

    pip install transformers    # for this comparison only; scaling_lib does not need it
    python benchmarks/bench_training.py            # about six minutes on two cores; --rounds 2 for a look

Steps of the forms take turns within one process, so that a busy machine slows all of them alike; what is reported are
medians and their ratios. Dropout is switched off in the peer: ours has none, and it would cost the peer time.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling_lib.config import ModelConfig, RunConfig
from scaling_lib.counting import count_parameters
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime
from scaling_lib.lm.train import _optimizer
from scaling_lib.sweep.cost import calibrate, expected_seconds
from scaling_lib.sweep.plan import Options, cores, make_plan
from scaling_lib.sweep.recipes import MODES, cells, make_train_config

SHAPES = {"4 layers x 256": ModelConfig(4, 4, 256, 10_000, 256), "8 layers x 384": ModelConfig(8, 6, 384, 10_000, 256)}
BATCH = 8
Step = Callable[[], None]


def ours(config: ModelConfig, batch: int, runtime: Runtime) -> Step:
    """A training step as ``lm.train`` does it."""
    model = GPT(config)
    run = RunConfig(config, make_train_config("v2", config.d_model, 100, batch), "uniform")
    optimizer = _optimizer(model, run, runtime)
    loss_of = torch.compile(model.loss, dynamic=False) if runtime.compile else model.loss
    x = torch.randint(config.vocab_size, (batch, config.seq_len))

    def step() -> None:
        with runtime.autocast():
            loss = loss_of(x, x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peer(config: ModelConfig, batch: int, *, bf16_compiled: bool = False) -> Step:
    """A training step of transformers' GPT-2: float32 and eager, or bf16 under autocast and compiled."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.seq_len, n_embd=config.d_model, n_layer=config.n_layer,
        n_head=config.n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    forward = torch.compile(model, dynamic=False) if bf16_compiled else model
    x = torch.randint(config.vocab_size, (batch, config.seq_len))
    autocast = torch.autocast("cpu", torch.bfloat16) if bf16_compiled else contextlib.nullcontext()

    def step() -> None:
        with autocast:
            loss = forward(input_ids=x, labels=x).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def product(size: int = 3072) -> Step:
    a = torch.randn(size, size, dtype=torch.bfloat16)
    b = torch.randn(size, size, dtype=torch.bfloat16)
    return lambda: torch.mm(a, b)


def seconds(forms: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median seconds of a step of each form; the forms take turns, after two steps of each to warm up."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 2):
        for name, step in forms.items():
            began = time.perf_counter()
            step()
            if turn >= 2:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def speed(rounds: int) -> dict[str, dict[str, float]]:
    found = {}
    for name, config in SHAPES.items():
        torch.compiler.reset()
        with FlopCounterMode(display=False) as counter:
            ours(config, BATCH, Runtime("cpu", "float32", False, cores()))()
        forms = {
            "ours": ours(config, BATCH, Runtime("cpu", "bfloat16", True, cores())),
            "ours, not compiled": ours(config, BATCH, Runtime("cpu", "bfloat16", False, cores())),
            "peer": peer(config, BATCH),
            "peer, bf16 and compiled": peer(config, BATCH, bf16_compiled=True),
            "product": product(),
        }
        took = seconds(forms, rounds)
        tokens = BATCH * config.seq_len
        peak = 2 * 3072**3 / took.pop("product")
        row = {f"tokens/s, {form}": tokens / t for form, t in took.items()}
        row["over the peer"] = took["peer"] / took["ours"]
        row["over the peer in bf16 and compiled"] = took["peer, bf16 and compiled"] / took["ours"]
        row["GFLOP/s"] = counter.get_total_flops() / took["ours"] / 1e9
        row["bf16 product, GFLOP/s"] = peak / 1e9
        row["share of the product's rate"] = row["GFLOP/s"] / row["bf16 product, GFLOP/s"]
        found[name] = row
    return found


def resident_bytes() -> int:
    """The largest memory that this process has had."""
    if Path("/proc/self/status").exists():  # getrusage would begin with that of the parent process
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def memory_of(form: str) -> None:
    """In a process of its own: five steps at 8 x 384; prints the peak above the imports in bytes."""
    torch.set_num_threads(cores())
    importlib.import_module(
        "transformers.models.gpt2.modeling_gpt2" if form == "peer" else "torch._inductor.compile_fx"
    )
    before = resident_bytes()
    config = SHAPES["8 layers x 384"]
    runtime = Runtime("cpu", "bfloat16", form == "ours", cores())
    step = peer(config, BATCH) if form == "peer" else ours(config, BATCH, runtime)
    for _ in range(5):
        step()
    print(resident_bytes() - before)


def memory(rounds: int) -> dict[str, float]:
    found: dict[str, list[int]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for form, values in found.items():
            command = [sys.executable, "-W", "ignore", __file__, "--memory-of", form]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            values.append(int(done.stdout.split()[-1]))
    ours_, peers = (statistics.median(found[form]) for form in ("ours", "peer"))
    return {"ours, MB": ours_ / 1e6, "peer, MB": peers / 1e6, "ratio": ours_ / peers}


def grid(rounds: int) -> dict[str, float]:
    """The laptop grid, reckoned from speeds: the peer one run after another with all cores, and ours by the plan."""
    torch.set_num_threads(cores())
    mode = MODES["laptop"]
    chosen = cells("laptop")
    peer_seconds = {}
    for index in range(len(mode.shapes)):
        model = mode.model(index)
        took = seconds({"peer": peer(model, mode.batch_size)}, rounds)["peer"]
        peer_seconds[model] = took / (mode.batch_size * mode.seq_len)
    one_by_one = sum(c.n_tokens * peer_seconds[c.model] for c in chosen)
    plan = make_plan(chosen, Options(device="cpu"))
    planned = expected_seconds(plan, calibrate(plan, 20.0))
    whole = sum(c.n_tokens * count_parameters(c.model).total for c in chosen)
    own = sum(n * count_parameters(c.model).total for p in plan.phases for j in p.jobs for c, n in j.own_tokens())
    return {
        "peer, hours": one_by_one / 3600,
        "ours, hours, with evaluation and starts": planned / 3600,
        "ratio": one_by_one / planned,
        "of which shared trunks": whole / own,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="K", help="medians are of K (default 5; 2 for a look)")
    parser.add_argument("--part", choices=("speed", "memory", "grid"), help="one part (default: all)")
    parser.add_argument("--memory-of", choices=("ours", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        return memory_of(args.memory_of)
    torch.set_num_threads(cores())
    print(f"torch {torch.__version__}, {cores()} cores")
    for part in (speed, memory, grid):
        if args.part in (None, part.__name__):
            print(part.__name__, json.dumps(part(args.rounds), indent=1), flush=True)


if __name__ == "__main__":
    main()

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
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling_lib.config import ModelConfig, RunConfig
from scaling_lib.counting import count_parameters
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime, choose_runtime, keep_freed_memory
from scaling_lib.lm.train import make_optimizer, update
from scaling_lib.sweep.cost import calibrate, expected_seconds
from scaling_lib.sweep.plan import Options, cores, make_plan
from scaling_lib.sweep.recipes import MODES, cells, make_train_config

SHAPES = {"4 layers x 256": ModelConfig(4, 4, 256, 10_000, 256), "8 layers x 384": ModelConfig(8, 6, 384, 10_000, 256)}
# As sweeps of small models train them: one process a core, by the planner's own choice of runtime.
SMALL_SHAPES = {"3 layers x 64": ModelConfig(3, 4, 64, 1024, 128), "4 layers x 128": ModelConfig(4, 8, 128, 1024, 128)}
SMALL_BATCH = 16
LONG = 8_000  # steps: a run of minutes, as the larger ones of the laptop sweep
BATCH = 8
Step = Callable[[], None]


def ours(config: ModelConfig, batch: int, runtime: Runtime) -> Step:
    """A training step as ``lm.train`` does it."""
    model = GPT(config)
    run = RunConfig(config, make_train_config("v2", config.d_model, 100, batch), "uniform")
    keep_freed_memory()
    optimizer = make_optimizer(model, run.train)
    loss_of = torch.compile(model.loss, dynamic=False) if runtime.compile else model.loss
    x = torch.randint(config.vocab_size, (batch, config.seq_len))
    return lambda: update(loss_of, optimizer, x, x, 1e-4, clip=1.0, runtime=runtime)


def peer(config: ModelConfig, batch: int, *, bf16: bool = False, compiled: bool = False) -> Step:
    """A training step of transformers' GPT-2: in float32 or in bf16 under autocast, eager or compiled."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.seq_len, n_embd=config.d_model, n_layer=config.n_layer,
        n_head=config.n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    forward = torch.compile(model, dynamic=False) if compiled else model
    x = torch.randint(config.vocab_size, (batch, config.seq_len))
    autocast = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()

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
        bf16 = Runtime("cpu", "bfloat16", True, cores())
        with FlopCounterMode(display=False) as counter:
            ours(config, BATCH, Runtime("cpu", "float32", False, cores()))()
        forms = {
            "ours": ours(config, BATCH, bf16),
            "ours, not compiled": ours(config, BATCH, Runtime("cpu", "bfloat16", False, cores())),
            "ours, learned positions": ours(
                replace(config, positions="learned", token_shift=False),
                BATCH,
                Runtime("cpu", "bfloat16", True, cores()),
            ),
            "peer": peer(config, BATCH),
            "peer, bf16 and compiled": peer(config, BATCH, bf16=True, compiled=True),
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


def small(rounds: int) -> dict[str, dict[str, float]]:
    """Tokens a second of all cores: ours in a process a core, the peer's forms with all cores each, taking turns."""
    found = {}
    for name, _config in SMALL_SHAPES.items():
        forms = {"ours": cores(), "ours, learned": cores(), "peer, float32": 1, "peer, bf16": 1}
        forms |= {"peer, bf16 and compiled": 1, "peer, float32 and compiled": 1}
        with contextlib.ExitStack() as stack:
            servers = {f: [stack.enter_context(Server(f, name)) for _ in range(n)] for f, n in forms.items()}
            rates: dict[str, list[float]] = {form: [] for form in forms}
            for _ in range(rounds):
                for form, group in servers.items():
                    for server in group:
                        server.begin()
                    rates[form].append(sum(server.tokens_per_second() for server in group))
        row = {f"tokens/s, {form}": statistics.median(values) for form, values in rates.items()}
        best = max(rate for form, rate in row.items() if "peer" in form)
        row["over the peer's best form"] = row["tokens/s, ours"] / best
        row["over our learned positions"] = row["tokens/s, ours"] / row["tokens/s, ours, learned"]
        found[name] = row
    return found


class Server:
    """A process that holds one form of a small model and times some of its steps when asked."""

    def __init__(self, form: str, shape: str) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "--serve", form, shape]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._process.stdout.readline()  # it is warm

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()

    def begin(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def tokens_per_second(self) -> float:
        assert self._process.stdout
        return float(self._process.stdout.readline())


def serve(form: str, shape: str) -> None:
    """The other end of a ``Server``: 2 seconds of steps at each line of input."""
    config = SMALL_SHAPES[shape]
    if form.startswith("ours"):
        torch.set_num_threads(1)
        if "learned" in form:
            config = replace(config, positions="learned", token_shift=False)
        run = RunConfig(config, make_train_config("v2", config.d_model, LONG, SMALL_BATCH), "uniform")
        step = ours(config, SMALL_BATCH, choose_runtime(run, device="cpu", threads=1))
    else:
        torch.set_num_threads(cores())
        step = peer(config, SMALL_BATCH, bf16="bf16" in form, compiled="compiled" in form)
    for _ in range(5):
        step()
    print("warm", flush=True)
    for _ in sys.stdin:
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < 2.0:
            step()
            steps += 1
        print(steps * SMALL_BATCH * config.seq_len / (time.perf_counter() - began), flush=True)


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
    parser.add_argument("--part", choices=("small", "speed", "memory", "grid"), help="one part (default: all)")
    parser.add_argument("--memory-of", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(*args.serve)
    if args.memory_of:
        return memory_of(args.memory_of)
    torch.set_num_threads(cores())
    print(f"torch {torch.__version__}, {cores()} cores")
    for part in (small, speed, memory, grid):
        if args.part in (None, part.__name__):
            print(part.__name__, json.dumps(part(args.rounds), indent=1), flush=True)


if __name__ == "__main__":
    main()

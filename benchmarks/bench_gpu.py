"""What a GPU makes of the training loop: the same losses, and how fast at 20M, 200M and 500M parameters.

    python benchmarks/bench_gpu.py                      # four minutes on one card, less on a fast one
    python benchmarks/bench_gpu.py --device cpu --tiny  # the same steps with small models, to try the script

Prints one JSON object. Speeds are those of `lm.train.update`, by the runtime that `choose_runtime` takes, on random
tokens: the median step after the first three. The share of peak counts the FLOPs of `counting.training_flops`; the
peak is that of a large matrix product in bf16, measured here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scaling_lib.config import ModelConfig, RunConfig
from scaling_lib.counting import count_parameters, training_flops
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime, choose_runtime
from scaling_lib.lm.speed import device_name, product_gflops
from scaling_lib.lm.train import make_optimizer, train, update
from scaling_lib.sweep.recipes import cells, make_train_config

WALK = "random-walk:train_tokens=2000000,val_tokens=65536"


def speeds(device: str, tiny: bool, seconds: float) -> list[dict[str, Any]]:
    """Tokens a second and share of peak at the sizes of `full` nearest to 20M, 200M and 500M, or at tiny ones."""
    peak = product_gflops(device, "bfloat16") * 1e9
    by_size = sorted({c.model: c for c in cells("full")}.values(), key=lambda c: count_parameters(c.model).total)
    chosen = [by_size[i] for i in (2, 5, 7)]
    if tiny:
        chosen = [c for c in cells("demo", recipes=["v2"]) if c.train.max_steps == 600][:3]
    rows = []
    for cell in chosen:
        torch.compiler.reset()
        runtime = choose_runtime(cell, device=device)
        model = GPT(cell.model).to(device)
        optimizer = make_optimizer(model, cell.train)
        loss_of = torch.compile(model.loss, dynamic=False) if runtime.compile else model.loss
        x = torch.randint(cell.model.vocab_size, (cell.train.batch_size, cell.model.seq_len), device=device)
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 6 or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            update(loss_of, optimizer, x, x, 1e-4, clip=1.0, runtime=runtime).item()  # which waits for the device
            times.append(time.perf_counter() - start)
        step = statistics.median(times[3:])
        memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
        rows.append(
            {
                "model": cell.model.name,
                "n_params": count_parameters(cell.model).total,
                "micro_batch": runtime.micro_batch,
                "compiled": runtime.compile,
                "tokens_per_second": round(x.numel() / step),
                "share_of_peak": round(training_flops(cell.model, x.numel()) / step / peak, 3),
                "memory_gb": memory,
            }
        )
        del model, optimizer, loss_of
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return rows


def agreement(device: str) -> dict[str, float]:
    """Final losses of one small run on the device, in parts and resumed, less that of the processor in float32."""
    corpus = load_corpus(WALK, 512)
    model = ModelConfig(2, 2, 64, 512, 64)
    config = RunConfig(model, make_train_config("wsd", 64, 200, 16, eval_tokens=65_536), WALK)
    plain = Runtime("cpu", "float32", False, torch.get_num_threads())
    reference = train(config, corpus, runtime=plain).val_loss
    there = choose_runtime(config, device=device, dtype="float32", compile=False)
    forms = {
        "float32": there,
        "bfloat16": replace(there, dtype="bfloat16"),
        "bfloat16, compiled": replace(there, dtype="bfloat16", compile=True),
        "in parts of 4": replace(there, micro_batch=4),
    }
    found = {name: train(config, corpus, runtime=runtime).val_loss for name, runtime in forms.items()}
    with tempfile.TemporaryDirectory() as folder:
        shorter = replace(config, train=replace(config.train, max_steps=180, decay_steps=20))
        train(shorter, corpus, runtime=there, checkpoint_dir=Path(folder))
        found["from a trunk"] = train(config, corpus, runtime=there, checkpoint_dir=Path(folder)).val_loss
    assert reference is not None
    return {name: round(loss - reference, 5) for name, loss in found.items() if loss is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu", "mps"))
    parser.add_argument("--tiny", action="store_true", help="models of the demo in place of 20M, 200M and 500M")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each size, beside compiling (default 20)")
    args = parser.parse_args()
    print(
        json.dumps(
            {
                "device": device_name(args.device),
                "torch": str(torch.__version__),
                "less the processor's loss, nats": agreement(args.device),
                "speeds": speeds(args.device, args.tiny, args.seconds),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

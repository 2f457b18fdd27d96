"""What the sweep engine costs beside training: seconds a run, and the resuming of a sweep that is finished.

    python benchmarks/bench_engine.py              # about two minutes

Overhead: a sweep of tiny runs in one worker, less the same ``train`` calls in a plain loop. Resuming: the command line
as a person types it, on 40 finished runs, report and figure included.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from joblib import Parallel, delayed

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.runtime import choose_runtime
from scaling_lib.lm.train import train
from scaling_lib.sweep.execute import run_sweep
from scaling_lib.sweep.plan import Options, make_plan

TEXT = "uniform:train_tokens=60000,val_tokens=8192"
RUNS, ROUNDS = 20, 5


def plain_loop(cells: list[RunConfig]) -> float:
    corpus = load_corpus(TEXT, 300)
    began = time.perf_counter()
    for cell in cells:
        train(cell, corpus, runtime=choose_runtime(cell, device="cpu", threads=1))
    return time.perf_counter() - began


def overhead() -> None:
    schedule = TrainConfig("v2", 30, 8, 0.01, "cosine", warmup_steps=3, eval_tokens=2048)
    cells = [
        RunConfig(ModelConfig(1, 2, 32, 300, 32), dataclasses.replace(schedule, seed=seed), TEXT)
        for seed in range(RUNS)
    ]
    plan = make_plan(cells, Options(device="cpu", workers=1))
    corpus = load_corpus(TEXT, 300)
    # Both in a worker that has torch loaded: what is compared is the engine, not the start of Python.
    (_,) = Parallel(n_jobs=2)([delayed(plain_loop)(cells[:1])])
    found = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            run_sweep(plan, Path(folder), corpus)
            swept = time.perf_counter() - began
        found.append((swept - plain_loop(cells)) / RUNS)
    print(f"overhead of the engine: {statistics.median(found):.3f} s a run (median of {ROUNDS} sweeps of {RUNS} runs)")


def resuming() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "scaling_lib", "run", "--mode", "demo", "--seeds", "3", "--max-steps", "4",
            "--corpus", TEXT, "--vocab-size", "300", "--out", folder,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        n_runs = len(list(Path(folder).glob("v*.json")))
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - began)
        start = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import torch, matplotlib.pyplot"], check=True)
            start.append(time.perf_counter() - began)
    print(
        f"resuming {n_runs} finished runs: {statistics.median(times):.2f} s, "
        f"of which importing torch and matplotlib {statistics.median(start):.2f} s"
    )


if __name__ == "__main__":
    overhead()
    resuming()

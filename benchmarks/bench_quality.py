"""Does faster arithmetic cost quality? The same runs in float32, eager, and in bf16, compiled: final losses, paired.

    python benchmarks/bench_quality.py             # about twelve minutes on two cores

Five seeds at two sizes, V2's recipe, 1.2M tokens of python-env. Within a pair the initial weights, the order of the
data and the validation text are the same.
"""

from __future__ import annotations

import math

import numpy as np
from joblib import Parallel, delayed
from scipy import stats

from scaling_lib.config import ModelConfig, RunConfig
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.runtime import Runtime
from scaling_lib.lm.train import train
from scaling_lib.sweep.plan import cores
from scaling_lib.sweep.recipes import make_train_config

SIZES = ((3, 5, 80), (4, 7, 112))
STEPS, SEEDS = 586, 5


def final_loss(shape: tuple[int, int, int], seed: int, fast: bool) -> float:
    model = ModelConfig(*shape, 1024, 128)
    config = RunConfig(model, make_train_config("v2", model.d_model, STEPS, 16, seed=seed, eval_tokens=131_072), "")
    runtime = Runtime("cpu", "bfloat16" if fast else "float32", fast, 1)
    loss = train(config, load_corpus("python-env", 1024), runtime=runtime).val_loss
    return math.nan if loss is None else loss


def main() -> None:
    pairs = [(shape, seed) for shape in reversed(SIZES) for seed in range(SEEDS)]
    tasks = [delayed(final_loss)(shape, seed, fast) for shape, seed in pairs for fast in (False, True)]
    losses = np.array(Parallel(n_jobs=cores(), batch_size=1)(tasks)).reshape(len(pairs), 2)
    change = 100 * (losses[:, 1] / losses[:, 0] - 1)
    for (shape, seed), (plain, fast), percent in zip(pairs, losses, change, strict=True):
        name = f"{shape[0]}x{shape[2]} seed {seed}"
        print(f"{name:>14}: float32 eager {plain:.4f}, bf16 compiled {fast:.4f}, {percent:+.2f}%")
    groups = [(f"{shape[0]}x{shape[2]}", [p[0] == shape for p in pairs]) for shape in SIZES]
    for name, which in [*groups, ("both", [True] * len(pairs))]:
        own = change[np.array(which)]
        half = stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / math.sqrt(len(own))
        mean = own.mean()
        print(f"{name:>6}: mean {mean:+.3f}%, 95% interval {mean - half:+.3f} to {mean + half:+.3f}%, n = {len(own)}")


if __name__ == "__main__":
    main()

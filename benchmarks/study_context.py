"""Where in a window does a model do well, and since when? The loss by position in the window, along the training.

    python benchmarks/study_context.py                  # writes benchmarks/context.csv
    python benchmarks/study_context.py --sweep laptop --out rotary.csv

Three models of a sweep on their own trunks (seed 0, the same batches, a constant rate after the warm-up, without the
decays that end a run). A model that only counts what follows what does as well at the start of a window as
at its end. One that looks for an earlier occurrence of the last token and copies what came after it ("induction heads",
Olsson et al. 2022, arXiv:2209.11895) needs a past to copy from. Random tokens said twice show that a
model uses its past; said the second time in another order they show how much of that needs no order, as counting does.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from scaling_lib.config import RunConfig
from scaling_lib.lm.batches import batch, val_windows
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.evaluate import token_losses
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.lm.train import make_optimizer, update
from scaling_lib.runs import shipped

OUT = Path(__file__).parent / "context.csv"
SIZES = ("2x32", "3x80", "4x112")
BANDS = ((0, 16), (16, 32), (32, 64), (64, 128))  # positions in a window of 128 tokens
EVERY = 244  # steps, half a million tokens
EVAL_TOKENS = 65_536


def curve(config: RunConfig) -> Iterator[tuple[str, int, str, float]]:
    """Rows (model, tokens, what, loss in nats) along one trunk."""
    runtime = Runtime("cpu", "float32", False, 1)
    torch.set_num_threads(1)
    corpus = load_corpus(config.corpus, config.model.vocab_size)
    model = GPT(config.model, seed=config.train.seed)
    optimizer = make_optimizer(model, config.train)
    x, y, _ = val_windows(corpus, config.model.seq_len, EVAL_TOKENS)
    rng = np.random.default_rng(0)
    half = rng.integers(256, config.model.vocab_size, (256, config.model.seq_len // 2))
    second = {"random again": half, "random, in another order": rng.permuted(half, axis=1)}
    for step in range(config.train.decay_start + 1):
        if step % EVERY == 0:
            tokens = step * config.train.batch_size * config.model.seq_len
            by_position = token_losses(model, x, y, runtime).mean(axis=0)
            for first, end in BANDS:
                yield config.model.name, tokens, f"{first}-{end - 1}", by_position[first:end].mean()
            middle = config.model.seq_len // 2
            for where, part in second.items():
                both = np.concatenate([half, part], axis=1)
                each = token_losses(model, both[:, :-1], both[:, 1:], runtime).mean(axis=0)
                if where == "random again":
                    yield config.model.name, tokens, "random", each[: middle - 1].mean()
                yield config.model.name, tokens, where, each[middle:].mean()
        train = config.train
        rows = batch(corpus.train, train.seed, step, train.batch_size, config.model.seq_len, corpus.unit)
        inputs, targets = (torch.from_numpy(part) for part in rows)
        update(
            model.loss, optimizer, inputs, targets, learning_rate(step, train), clip=train.grad_clip, runtime=runtime
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", default="laptop-learned", help="whose models, as shipped (default: laptop-learned)")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    runs = sorted(shipped(args.sweep), key=lambda r: r.config.n_tokens)
    longest = {r.config.model.name: r.config for r in runs if r.config.train.seed == 0}  # the last of each size
    chosen = [longest[name] for name in reversed(SIZES)]
    rows = Parallel(n_jobs=2, batch_size=1)(delayed(lambda c: list(curve(c)))(config) for config in chosen)
    with args.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("model", "n_tokens", "where", "loss"))
        writer.writerows((*row[:3], f"{row[3]:.4f}") for found in rows for row in found)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()

"""Which design of model and grid has losses that a law describes? Variants trained along shared trunks.

    python benchmarks/study_design.py OUT.csv --variants shift rotary base10000 --sizes 0 2 3 --million 1 2 4 8

Each variant changes one thing of the laptop sweep: the model's positions, a constant of the model, the rate, the
window or the batch. One row a run; what OUT.csv already holds is not trained again. `--show` prints the gains of the
doublings and how well each joint law, fitted to the smaller cells, predicts the largest size and token count.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling_lib.config import RunConfig
from scaling_lib.counting import count_parameters
from scaling_lib.sweep.recipes import MODES, make_train_config, peak_lr

COLUMNS = ("variant", "n_layer", "d_model", "n_params_non_embedding", "n_tokens", "seed", "val_loss")


@dataclass(frozen=True)
class Variant:
    """What differs from the laptop sweep."""

    what: str
    positions: str = "rotary"
    token_shift: bool = True
    seq_len: int = 128
    batch_size: int = 16
    lr_factor: float = 1.0
    constants: tuple[tuple[str, float], ...] = ()  # of scaling_lib.lm.model


VARIANTS = {
    "shift": Variant("rotary positions of base 1,000 and a token shift"),
    "rotary": Variant("without the token shift", token_shift=False),
    "learned-shift": Variant("learned positions and a token shift", positions="learned"),
    "start05": Variant("gains of the token shift begin at 0.5", constants=(("TOKEN_SHIFT_START", 0.5),)),
    "start1": Variant("gains of the token shift begin at 1", constants=(("TOKEN_SHIFT_START", 1.0),)),
    "base10000": Variant("base 10,000", constants=(("ROTARY_BASE", 10_000.0),)),
    "base100": Variant("base 100", constants=(("ROTARY_BASE", 100.0),)),
    "std002": Variant("embeddings begin at 0.02", constants=(("EMBEDDING_STD", 0.02),)),
    "window256": Variant("windows of 256 tokens, 8 a step", seq_len=256, batch_size=8),
    "window64": Variant("windows of 64 tokens, 32 a step", seq_len=64, batch_size=32),
    "batch32": Variant("32 windows a step, half the steps", batch_size=32),
    "lr16": Variant("1.6 times the rate", lr_factor=1.6),
    "lr2": Variant("twice the rate", lr_factor=2.0),
    "lr05": Variant("half the rate", lr_factor=0.5),
}


def ladder(variant: Variant, size: int, tokens: list[int], seed: int) -> list[RunConfig]:
    """The runs of one size, shortest first, on one trunk."""
    mode = MODES["laptop"]
    model = replace(
        mode.model(size),
        positions=variant.positions,
        token_shift=variant.token_shift,
        seq_len=variant.seq_len,
    )
    per_step = variant.batch_size * variant.seq_len
    warmup = round(0.1 * 1_000_000 / per_step)
    return [
        RunConfig(
            model,
            make_train_config(
                "wsd", model.d_model, n // per_step, variant.batch_size, seed=seed,
                lr=peak_lr(model.d_model) * variant.lr_factor, warmup_steps=warmup, eval_tokens=mode.eval_tokens,
            ),
            mode.corpus,
        )
        for n in tokens
    ]  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{k: v if k == "variant" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def run(path: Path, names: list[str], sizes: list[int], tokens: list[int], seed: int) -> None:
    import scaling_lib.lm.model as model_module
    from scaling_lib.lm.corpus import load_corpus
    from scaling_lib.lm.runtime import choose_runtime
    from scaling_lib.lm.train import train

    corpus = load_corpus("python-env", 1024)
    for size in sizes:
        for name in names:
            variant = VARIANTS[name]
            for constant, value in variant.constants:
                setattr(model_module, constant, value)
            cells = ladder(variant, size, tokens, seed)
            done = {(r["variant"], r["d_model"], r["n_tokens"], r["seed"]) for r in read(path)}
            missing = [c for c in cells if (name, c.model.d_model, c.n_tokens, seed) not in done]
            runtime = choose_runtime(cells[-1], threads=1)
            with tempfile.TemporaryDirectory() as folder:
                for cell in missing:
                    result = train(cell, corpus, runtime=runtime, checkpoint_dir=Path(folder), checkpoint_seconds=1e9)
                    shape = (cell.model.n_layer, cell.model.d_model, count_parameters(cell.model).non_embedding)
                    row = (name, *shape, cell.n_tokens, seed, round(result.val_loss or float("nan"), 5))
                    new = not path.exists()
                    with path.open("a", newline="") as file:
                        csv.writer(file).writerows([COLUMNS, row] if new else [row])
            for constant, _ in variant.constants:
                setattr(model_module, constant, DEFAULTS[constant])


DEFAULTS = {"ROTARY_BASE": 1000.0, "EMBEDDING_STD": 0.1, "TOKEN_SHIFT_START": 0.0}


def show(path: Path) -> None:
    from scaling_lib.errors import InputError
    from scaling_lib.fit import fit_joint

    rows = read(path)
    for name in dict.fromkeys(r["variant"] for r in rows):
        mine = [r for r in rows if r["variant"] == name and r["seed"] == 0]
        print(f"\n{name}: {VARIANTS[name].what}")
        for d in sorted({r["d_model"] for r in mine}):
            cells = sorted((r for r in mine if r["d_model"] == d), key=lambda r: r["n_tokens"])
            losses = np.array([r["val_loss"] for r in cells])
            print(f"  {int(cells[0]['n_layer'])}x{int(d)}: {losses.round(3)}  gains {-np.diff(losses).round(3)}")
        n, t, y = (np.array([r[k] for r in mine]) for k in ("n_params_non_embedding", "n_tokens", "val_loss"))
        hide = (n == n.max()) | (t == t.max())
        for law in ("chinchilla", "power_mean", "kaplan"):
            try:
                fit = fit_joint(n[~hide], t[~hide], y[~hide], law=law)
                whole = fit_joint(n, t, y, law=law)
            except InputError as error:
                print(f"  {law}: {error}")
                continue
            miss = np.abs(fit.predict(n[hide], t[hide]) / y[hide] - 1).mean()
            rms = np.sqrt(np.mean((whole.predict(n, t) / y - 1) ** 2))
            print(f"  {law}: hidden {hide.sum()} cells, mean error {100 * miss:.2f}%; all fitted, rms {100 * rms:.2f}%")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["shift"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[0, 2, 3], help="indices of the laptop sweep's shapes")
    parser.add_argument("--million", nargs="+", type=int, default=[1, 2, 4, 8], help="training tokens, in millions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="train nothing")
    args = parser.parse_args()
    if not args.show:
        run(args.out, args.variants, args.sizes, [m * 1_000_000 for m in args.million], args.seed)
    show(args.out)


if __name__ == "__main__":
    main()

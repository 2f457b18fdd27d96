"""Which design of model and grid has losses that a law describes? Variants trained along shared trunks.

    python benchmarks/study_design.py results/lr-study/design.csv --variants chosen no-shift --sizes 0 2 --million 1 2 4

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
from scaling_lib.sweep.recipes import MODES, make_train_config

COLUMNS = ("variant", "n_layer", "d_model", "n_params_non_embedding", "n_tokens", "seed", "val_loss")


@dataclass(frozen=True)
class Variant:
    """What differs from the laptop sweep as it is now. ``base_lr`` is the peak rate at width 64."""

    what: str
    positions: str = "rotary"
    token_shift: bool = True
    seq_len: int = 128
    batch_size: int = 8
    base_lr: float = 7.5e-3
    constants: tuple[tuple[str, float], ...] = ()  # of scaling_lib.lm.model


VARIANTS = {
    "chosen": Variant("as the laptop sweep has it"),
    # The first choice was that of the sweep before: 16 windows a step and a rate of 5e-3.
    "first": Variant("16 windows a step, rate 5e-3", batch_size=16, base_lr=5e-3),
    "first-start-0.5": Variant(
        "likewise, the shift's gains begin at 0.5", batch_size=16, base_lr=5e-3, constants=(("TOKEN_SHIFT_START", 0.5),)
    ),
    "first-start-1": Variant(
        "likewise, the shift's gains begin at 1", batch_size=16, base_lr=5e-3, constants=(("TOKEN_SHIFT_START", 1.0),)
    ),
    "16-windows": Variant("16 windows a step, rate 8e-3", batch_size=16, base_lr=8e-3),
    "rate-8e-3": Variant("rate 8e-3", base_lr=8e-3),
    "rate-5e-3": Variant("rate 5e-3", base_lr=5e-3),
    "no-shift": Variant("rotary positions, no token shift", token_shift=False),
    "learned": Variant("learned positions, no token shift", positions="learned", token_shift=False),
    "learned-shift": Variant("learned positions and a token shift", positions="learned"),
    "base-10000": Variant("rotations of base 10,000", constants=(("ROTARY_BASE", 10_000.0),)),
    "base-100": Variant("rotations of base 100", constants=(("ROTARY_BASE", 100.0),)),
    "std-0.02": Variant("embeddings begin at 0.02", constants=(("EMBEDDING_STD", 0.02),)),
    "window-256": Variant("4 windows of 256 tokens a step", seq_len=256, batch_size=4),
    "window-64": Variant("16 windows of 64 tokens a step", seq_len=64, batch_size=16),
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
    rate = float(f"{variant.base_lr * 64 / model.d_model:.3g}")
    warmup = round(0.1 * 1_000_000 / per_step)
    return [
        RunConfig(
            model,
            make_train_config(
                "wsd", model.d_model, n // per_step, variant.batch_size, seed=seed,
                lr=rate, warmup_steps=warmup, eval_tokens=mode.eval_tokens,
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
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["chosen"])
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

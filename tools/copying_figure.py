"""What positions do to a law: the figure of the blog post and the lecture notes, drawn from the records.

python -m tools.copying_figure     # docs/figures/copying.png
"""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from scaling_lib.runs import has_records, read_runs
from scaling_lib.show.plot import LOSS

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "benchmarks" / "context.csv"  # benchmarks/study_context.py measures it
GRIDS = ("laptop-learned", "laptop")
MODEL = "4x96"


def main(out: Path) -> None:
    """Draw it to ``out``: on the left what three trainings gain by their past, on the right the loss of one size."""
    with plt.style.context("scaling_lib.show.styles.blog"):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4))
        rows = list(csv.DictReader(STUDY.read_text(encoding="utf-8").splitlines()))
        for model in sorted({r["model"] for r in rows}):
            own = [r for r in rows if r["model"] == model]
            first, again = ([float(r["loss"]) for r in own if r["where"] == w] for w in ("random", "random again"))
            tokens = [float(r["n_tokens"]) / 1e6 for r in own if r["where"] == "random"]
            left.plot(tokens, np.subtract(first, again), label=model)
        left.set(xlabel="training tokens (millions)", ylabel="gain the second time (nats per token)")
        left.set_title("Random tokens, said twice: learned positions")
        left.legend(title="layers x width")
        grids = [p for name in GRIDS if has_records(p := ROOT / "results" / name)]
        runs = [r for grid in grids for r in read_runs(grid) if r.config.model.name == MODEL]
        for positions, label, marker in (("learned", "learned", "o"), ("rotary", "rotary, token shift", "D")):
            ends = {r.config.n_tokens / 1e6: r.val_loss for r in runs if r.config.model.positions == positions}
            x = sorted(ends)
            right.plot(x, [ends[d] for d in x], marker + "-", label=label)
        right.set_xscale("log", base=2)
        right.set_xticks(x, [f"{d:.0f}M" for d in x])
        right.set(xlabel="training tokens D", ylabel=LOSS, title=f"The loss of one size, {MODEL}")
        right.legend(title="positions")
        figure.savefig(out)


if __name__ == "__main__":
    main(ROOT / "docs" / "figures" / "copying.png")

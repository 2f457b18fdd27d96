"""Does cost grow as planned? Seconds of every run of some sweeps against its own FLOPs, and what the planner expects.

    python benchmarks/plot_cost.py results/entropy-walk results/laptop-learned results/laptop --out cost.png

The planner's line comes from a calibration on the machine that draws the figure; the runs may be another machine's, or
have shared theirs with other work: then the points lie above the line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from scaling_lib.config import RunConfig
from scaling_lib.counting import count_parameters, training_flops
from scaling_lib.runs import read_runs
from scaling_lib.sweep.cost import calibrate, evaluation_seconds
from scaling_lib.sweep.plan import Options, make_plan


def costs(folder: Path) -> tuple[np.ndarray, ...]:
    """Of every finished run: FLOPs of its own part, seconds it took, seconds by the plan, parameters, and the sweep."""
    runs = {r.config: r for r in read_runs(folder) if r.finished}
    plan = make_plan(list(runs), Options(device="cpu"))
    per_token = calibrate(plan, 15.0)
    # A run that continues a shorter one's trunk has trained, and paid for, its own part only.
    own: dict[RunConfig, int] = {c: n for p in plan.phases for j in p.jobs for c, n in j.own_tokens()}
    return (
        np.array([training_flops(c.model, n) for c, n in own.items()]),
        np.array([runs[c].seconds for c in own]),
        np.array([n * per_token[c.model] + evaluation_seconds(c, per_token[c.model]) for c, n in own.items()]),
        np.array([count_parameters(c.model).total for c in own]),
        np.array([folder.name] * len(own)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/cost.png"))
    args = parser.parse_args()
    flops, took, planned, sizes, sweeps = (
        np.concatenate(parts) for parts in zip(*map(costs, args.folders), strict=True)
    )
    ratio = took / planned
    print(
        f"{len(took)} runs over {np.log10(flops.max() / flops.min()):.1f} decades of FLOPs, "
        f"{took.sum() / 3600:.2f} hours"
    )
    print(f"measured over planned: median {np.median(ratio):.2f}, from {ratio.min():.2f} to {ratio.max():.2f}")
    plt.style.use("scaling_lib.show.styles.blog")
    figure, axes = plt.subplots(figsize=(8, 4.6))
    shade = LogNorm(sizes.min(), sizes.max())
    for folder, marker in zip(dict.fromkeys(sweeps.tolist()), "o^sDv", strict=False):
        here = sweeps == folder
        axes.scatter(flops[here], took[here], c=sizes[here], norm=shade, marker=marker, s=22, label=folder, zorder=3)
        for size in np.unique(sizes[here]):
            which = np.flatnonzero(here & (sizes == size))
            which = which[np.argsort(flops[which])]
            axes.plot(flops[which], planned[which], color=plt.colormaps["viridis"](shade(size)), linewidth=1)
    figure.colorbar(axes.collections[0], ax=axes, label="parameters, with embeddings")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("training FLOPs of the run's own part")
    axes.set_ylabel("seconds")
    axes.set_title("Time of each run (points) and the planner's expectation (lines)")
    axes.legend()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()

"""Do the intervals cover, and does the verdict refuse what it must? Five designs, fixed before any was run.

    python benchmarks/coverage.py [--draws 400] [--markdown]

Each design draws noisy losses from a known law, fits them with the package's defaults, and asks at three targets (every
variable 1, 4 and 30 times beyond the largest run) whether the nominal 90% interval of the mean holds the law's value,
whether that of a new run holds a fresh noisy loss, and whether the verdict refuses. One core, a few minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling_lib.fit import FitResult, fit_joint, fit_power_law

FACTORS = (1.0, 4.0, 30.0)
LEVEL = 0.9


@dataclass(frozen=True)
class Design:
    """A sweep whose answer is known.

    n, d : (runs,) sizes and tokens (d None for a ladder in N). truth : law of (N, D).
    noise : ``noise(rng, runs, groups)``, log noise; groups None for new runs. groups : (runs,) or None.
    identifiable : whether it must be believed.
    """

    name: str
    says: str
    n: np.ndarray
    d: np.ndarray | None
    truth: Callable[[np.ndarray, np.ndarray | None], np.ndarray]
    noise: Callable[[np.random.Generator, int, np.ndarray | None], np.ndarray]
    groups: np.ndarray | None
    identifiable: bool

    def fit(self, loss: np.ndarray) -> FitResult:
        """The package's default fit for this kind of sweep."""
        if self.d is None:
            return fit_power_law(self.n, loss, groups=self.groups)
        return fit_joint(self.n, self.d, loss, groups=self.groups)

    def target(self, factor: float) -> tuple[float, ...]:
        """Every variable ``factor`` times its largest value."""
        n = factor * float(self.n.max())
        return (n,) if self.d is None else (n, factor * float(self.d.max()))


def _chinchilla(n: np.ndarray, d: np.ndarray | None) -> np.ndarray:
    """Epoch's constants (Besiroglu et al. 2024)."""
    assert d is not None
    return 1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658


def _ladder(n: np.ndarray, d: np.ndarray | None) -> np.ndarray:
    return 1.7 + 400.0 / n**0.34


def _flat(n: np.ndarray, d: np.ndarray | None) -> np.ndarray:
    """A uniform corpus of 512 tokens: ln 512, whatever the size."""
    return np.full(np.shape(n), np.log(512.0))


def _normal(sd: float) -> Callable[[np.random.Generator, int, np.ndarray | None], np.ndarray]:
    return lambda rng, runs, groups: rng.normal(0.0, sd, runs)


def _student(sd: float) -> Callable[[np.random.Generator, int, np.ndarray | None], np.ndarray]:
    """Student's t with 5 degrees of freedom, scaled to the standard deviation: real sweeps have outliers."""
    return lambda rng, runs, groups: sd * np.sqrt(3.0 / 5.0) * rng.standard_t(5, runs)


def _trunk(shared: float, own: float) -> Callable[[np.random.Generator, int, np.ndarray | None], np.ndarray]:
    def noise(rng: np.random.Generator, runs: int, groups: np.ndarray | None) -> np.ndarray:
        if groups is None:  # a new run has a trunk of its own
            return rng.normal(0.0, np.hypot(shared, own), runs)
        return rng.normal(0.0, shared, int(groups.max()) + 1)[groups] + rng.normal(0.0, own, runs)

    return noise


def _grid(sizes: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, d = np.meshgrid(sizes, tokens, indexing="ij")
    return n.ravel(), d.ravel()


def designs() -> tuple[Design, ...]:
    """The five designs."""
    ladder = np.geomspace(1e6, 1e9, 10)
    grid_n, grid_d = _grid(np.geomspace(3e7, 1e10, 8), np.geomspace(5e8, 2e11, 6))
    trunk_n, trunk_d = _grid(np.geomspace(1e7, 3e9, 8), np.geomspace(5e8, 1e11, 6))
    ray = np.geomspace(1e7, 1e10, 12)
    return (
        Design(
            "ladder",
            "10 sizes, 1M to 1B, one run each; L(N) with a floor; normal noise of 0.5%",
            ladder, None, _ladder, _normal(0.005), None, True,
        ),
        Design(
            "grid",
            "8 sizes x 6 token counts; Chinchilla's law; Student noise (5 degrees of freedom) of 0.7%",
            grid_n, grid_d, _chinchilla, _student(0.007), None, True,
        ),
        Design(
            "trunks",
            "8 trunks (one a size) x 6 decay branches; Chinchilla's law; noise of 0.5% a trunk and 0.4% a branch",
            trunk_n, trunk_d, _chinchilla, _trunk(0.005, 0.004), np.repeat(np.arange(8), 6), True,
        ),
        Design(
            "ray",
            "12 sizes, all at 20 tokens per parameter; Chinchilla's law; normal noise of 0.5%",
            ray, 20.0 * ray, _chinchilla, _normal(0.005), None, False,
        ),
        Design(
            "flat",
            "10 sizes on uniform tokens: every loss is ln 512; normal noise of 0.3%",
            ladder, None, _flat, _normal(0.003), None, False,
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Tally:
    """Shares of the draws, for each target: covered by the mean's interval, by a new run's, refused; seconds in all."""

    mean: np.ndarray
    new_run: np.ndarray
    refused: np.ndarray
    width: np.ndarray
    seconds: float


def study(design: Design, draws: int, seed: int = 0) -> Tally:
    """Draw, fit, ask, ``draws`` times."""
    rng = np.random.default_rng(seed)
    begun = time.perf_counter()
    truth = design.truth(design.n, design.d)
    goal = [design.target(f) for f in FACTORS]
    columns = tuple(np.array(c) for c in zip(*goal, strict=True))
    at_goal = design.truth(columns[0], columns[1] if len(columns) > 1 else None)
    hits = np.zeros((4, draws, len(FACTORS)))
    for i in range(draws):
        loss = truth * np.exp(design.noise(rng, len(design.n), design.groups))
        fresh = at_goal * np.exp(design.noise(rng, len(FACTORS), None))
        fit = design.fit(loss)
        if design.identifiable:
            for row, kind, value in ((0, "mean", at_goal), (1, "new_run", fresh)):
                low, high = fit.interval(*columns, level=LEVEL, kind=kind)
                hits[row, i] = (low <= value) & (value <= high)
            low, high = fit.interval(*columns, level=LEVEL)
            hits[3, i] = (high - low) / at_goal
        hits[2, i] = [fit.verdict(*g).refused for g in goal]
    return Tally(
        hits[0].mean(axis=0), hits[1].mean(axis=0), hits[2].mean(axis=0), np.median(hits[3], axis=0),
        time.perf_counter() - begun,
    )  # fmt: skip


def main() -> None:
    """Print a table of the five designs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="name of one design")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    edge = "| " if args.markdown else ""
    bar = " | " if args.markdown else "  "
    head = ["design  ", "target", "mean 90%", "new run 90%", "refused", "median width", "seconds"]
    print(edge + bar.join(head) + (" |" if args.markdown else ""))
    if args.markdown:
        print("|" + "---|" * len(head))
    for design in designs():
        if args.only and design.name != args.only:
            continue
        tally = study(design, args.draws, args.seed)
        for j, factor in enumerate(FACTORS):
            covered = [f"{100 * v[j]:.1f}%" if design.identifiable else "-" for v in (tally.mean, tally.new_run)]
            width = f"{100 * tally.width[j]:.1f}%" if design.identifiable else "-"
            cells = [
                f"{design.name:8}", f"{factor:g}x".rjust(6), covered[0].rjust(8), covered[1].rjust(11),
                f"{100 * tally.refused[j]:.1f}%".rjust(7), width.rjust(12), f"{tally.seconds:.0f}" if j == 0 else "",
            ]  # fmt: skip
            print(edge + bar.join(cells) + (" |" if args.markdown else ""), flush=True)


if __name__ == "__main__":
    main()

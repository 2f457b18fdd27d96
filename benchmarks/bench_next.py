"""Does the choice of `fit.design` pay? Against three other ways to spend one budget, on random laws that are known.

    python benchmarks/bench_next.py [--truths 100] [--seed 1] [--write]

Written down before it was run. A truth is Chinchilla's sum, a power mean or Kaplan's form with random exponents (0.2 to
0.6), a random floor (20 to 70% of the loss of the smallest run) and noise of 0.3 to 1% a run. Nine small runs (three
sizes, three lengths) come first. Then a budget of 2.5 times the dearest run that may be bought is spent on a grid of
sizes and lengths, a factor of 2 apart; the target costs 30 times that dearest run. Ways to spend it:

- next: `fit.design.next_runs`, c-optimal. next-D: the same, D-optimal.
- random: runs in random order, while one can be paid.
- largest: the dearest run that can be paid, again and again.
- 20 tokens: runs whose tokens per parameter are nearest to 20, the dearest first.

All are fitted alike (`fit_joint`, pooled) and scored at the target against the truth's loss without noise: the interval
score of the 90% interval of the mean, as a share of the loss. ``--write`` replaces the section in RESULTS.md.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import fit_joint
from scaling_lib.fit.design import Outlook

RESULTS = Path(__file__).parent / "RESULTS.md"
TITLE = "## Advice on the next runs"
SIZES = 1e6 * 2.0 ** np.arange(10)
LENGTHS = 2e7 * 2.0 ** np.arange(11)
TARGET = (1e9, 2e10)
DEAREST = 6.0 * TARGET[0] * TARGET[1] / 30.0
BUDGET = 2.5 * DEAREST
FIRST = tuple(v.ravel() for v in np.meshgrid([1e6, 4e6, 1.6e7], [2e7, 8e7, 3.2e8]))
WAYS = ("next", "next-D", "random", "largest", "20 tokens", "nothing more")


class Truth:
    """A law in centred variables, and its noise."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.form = ("chinchilla", "power_mean", "kaplan")[rng.integers(3)]
        self.alpha, self.beta = rng.uniform(0.2, 0.6, 2)
        self.floor = rng.uniform(0.2, 0.7) if self.form != "kaplan" else 0.0
        self.share = rng.uniform(0.25, 0.75)
        self.q = {
            "chinchilla": 1.0,
            "kaplan": 1.0 / self.beta,
            "power_mean": np.exp(rng.uniform(np.log(0.5), np.log(3.0))),
        }[self.form]
        self.noise = rng.uniform(0.003, 0.01)

    def __call__(self, n: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Loss (m,); 4 at the smallest run."""
        a = self.share ** (1 / self.q) * (n / SIZES[0]) ** -self.alpha
        b = (1 - self.share) ** (1 / self.q) * (d / LENGTHS[0]) ** -self.beta
        return 4.0 * (self.floor + (1 - self.floor) * (a**self.q + b**self.q) ** (1 / self.q))


def spend(way: str, cost: np.ndarray, ratio: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Indices of the runs that a way without advice buys."""
    if way == "random":
        order = rng.permutation(len(cost))
    elif way == "largest":
        order = np.argsort(-cost, kind="stable")
    else:
        off = np.abs(np.log(ratio / 20.0))
        order = np.array([i for i in np.argsort(-cost, kind="stable") if off[i] <= np.log(2.0) / 2 + 1e-9])
    bought, left = [], BUDGET
    for i in order:
        if cost[i] <= left:
            bought.append(int(i))
            left -= cost[i]
    return bought


def play(truth: Truth, rng: np.random.Generator) -> dict[str, tuple[float, float, float, float, int]]:
    """For each way: interval score, half-width, expected half-width, absolute error, runs bought."""

    def observe(n: np.ndarray, d: np.ndarray) -> np.ndarray:
        return truth(n, d) * np.exp(rng.normal(0.0, truth.noise, len(n)))

    n0, d0 = FIRST
    l0 = observe(n0, d0)
    n, d = (v.ravel() for v in np.meshgrid(SIZES, LENGTHS))
    new = (6 * n * d <= DEAREST) & ~np.any([(n == a) & (d == b) for a, b in zip(n0, d0, strict=True)], axis=0)
    n, d = n[new], d[new]
    cost, loss = 6 * n * d, observe(n, d)
    first = fit_joint(n0, d0, l0)
    outlook = Outlook(first, n, d, cost, TARGET)
    goal = float(truth(*(np.array([v]) for v in TARGET))[0])
    out = {}
    for way in WAYS:
        if way.startswith("next"):
            own = outlook.choose(BUDGET, "D" if way == "next-D" else "c").chosen.tolist()
        else:
            own = [] if way == "nothing more" else spend(way, cost, d / n, rng)
        fit = first if not own else fit_joint(np.append(n0, n[own]), np.append(d0, d[own]), np.append(l0, loss[own]))
        low, high = fit.interval(*TARGET)
        miss = max(low - goal, 0.0) + max(goal - high, 0.0)
        half = (high - low) / 2 / goal
        out[way] = (
            (high - low + 20.0 * miss) / goal,
            half,
            outlook.width(own),
            abs(fit.predict(*TARGET) / goal - 1),
            len(own),
        )
    return out


def table(truths: int, seed: int) -> str:
    """Play and count; Markdown."""
    rows: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    refused = 0
    for i in range(truths):
        rng = np.random.default_rng([seed, i])
        try:
            played = play(Truth(rng), rng)
        except InputError:
            refused += 1
            continue
        for way, row in played.items():
            rows[way].append(row)
    found = {way: np.array(r) for way, r in rows.items()}
    lines = [
        "| spending | median score | mean score | median half-width | expected | held | median error | runs | "
        "`next` scores better |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        s = found[way]
        held = np.mean(s[:, 0] <= 2 * s[:, 1] + 1e-12)
        better = "" if way == "next" else f"{np.mean(found['next'][:, 0] < s[:, 0]):.0%} of truths"
        score, half, expected, error = 100 * np.median(s[:, :4], axis=0)
        lines.append(
            f"| {way} | {score:.2f}% | {100 * np.mean(s[:, 0]):.2f}% | {half:.2f}% | {expected:.2f}% | {held:.0%} | "
            f"{error:.2f}% | {np.median(s[:, 4]):.0f} | {better} |"
        )
    best = np.median(found["next"][:, 0])
    less = ", ".join(
        f"{1 - best / np.median(found[way][:, 0]):.0%} below {way}" for way in ("random", "largest", "20 tokens")
    )
    lines.append(
        f"\n{truths} truths, seed {seed}; {refused} refused after the first nine runs, and left out. The median score "
        f'of `next` is {less}. "expected" is the half-width that the linear theory promised before the runs were made; '
        '"held" is the share of the 90% intervals that held the truth.'
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truths", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    args = parser.parse_args()
    found = table(args.truths, args.seed)
    print(found)
    if args.write:
        about = f"`python benchmarks/bench_next.py --truths {args.truths} --seed {args.seed} --write`"
        text = RESULTS.read_text(encoding="utf-8")
        rest = re.sub(rf"{TITLE}\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL).rstrip()
        RESULTS.write_text(
            f"{rest}\n\n{TITLE}\n\n{about}: what is compared is in the file's first lines.\n\n{found}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()

"""How fast are the fits? Against the `chinchilla` package, on the 240 runs of Besiroglu et al. 2024, in one process.

    pip install chinchilla        # for the comparison only; without it the other rows are measured
    python benchmarks/bench_fit.py [--write]

``--write`` replaces the section "Speed of the fits" of benchmarks/RESULTS.md. Times on a shared machine wander; the
ratio of two times of one run wanders less. The runs come from SCALING_LIB_DATA, the cache, or the network.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import itertools
import os
import platform
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from scaling_lib.fit import RunTable, fit_joint, fit_power_law, published

T = TypeVar("T")
RESULTS = Path(__file__).parent / "RESULTS.md"
TITLE = "## Speed of the fits"
# The starts of Hoffmann et al. 2022, appendix D.3: 4,500 in ln E, ln A, ln B, alpha, beta.
GRID = {
    "e": np.arange(-1.0, 1.1, 0.5),
    "a": np.arange(0.0, 26.0, 5.0),
    "b": np.arange(0.0, 26.0, 5.0),
    "alpha": np.arange(0.0, 2.1, 0.5),
    "beta": np.arange(0.0, 2.1, 0.5),
}
# The same box thinned, 108 starts: the reference would take minutes for all of it.
THIN = {"e": [-1.0, 0.0, 1.0], "a": [0.0, 10.0, 20.0], "b": [0.0, 10.0, 20.0], "alpha": [0.0, 1.0], "beta": [0.0, 1.0]}


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Return (seconds, result) of one call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def starts() -> np.ndarray:
    """Return the paper's 4,500 starts as natural parameters (4500, 5)."""
    grid = np.array(list(itertools.product(*GRID.values())))
    grid[:, :3] = np.exp(grid[:, :3])
    return grid


def objective(table: RunTable, e: float, a: float, b: float, alpha: float, beta: float) -> float:
    """Return the summed Huber terms (delta 1e-3) of the log residuals, by hand."""
    r = np.abs(np.log((e + a / table.n_params**alpha + b / table.n_tokens**beta) / table.loss))
    return float(np.where(r <= 1e-3, r**2 / 2, 1e-3 * (r - 5e-4)).sum())


def reference(table: RunTable) -> tuple[float, float] | None:
    """Return (seconds a start in one process, objective reached) of the `chinchilla` package; None without it."""
    try:
        from chinchilla import Chinchilla
        from chinchilla._metrics import log_huber
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        grid = {k: np.asarray(v) for k, v in THIN.items()}
        loss = functools.partial(log_huber, delta=1e-3)
        model = Chinchilla(project_dir=folder, param_grid=grid, loss_fn=loss, log_level=50)
        for n, d, y in zip(table.n_params, table.n_tokens, table.loss, strict=True):
            model.append(N=n, D=d, loss=y)
        model.visualizer.optim = lambda *args, **kwargs: None  # its figure is not a part of the fit
        seconds, _ = timed(lambda: model.fit(parallel=False))
        found = [float(getattr(model, k)) for k in ("E", "A", "B", "alpha", "beta")]
    return seconds / int(np.prod([len(v) for v in THIN.values()])), objective(table, *found)


def measure() -> list[str]:
    """Return the rows of the table, each "| what | measured | aim |"."""
    table = published.epoch_runs()
    n, d, y = table.n_params, table.n_tokens, table.loss
    fit_joint(n, d, y)  # loads what is loaded once
    grid = starts()
    all_starts, fit = timed(lambda: fit_joint(n, d, y, starts=grid))
    each = all_starts / len(grid)
    reached = objective(table, *(fit.params[k] for k in ("E", "A", "B", "alpha", "beta")))
    draws, drawn = timed(lambda: fit_joint(n, d, y, bootstrap=4000, bootstrap_kind="case"))
    spread = drawn.draws.std(axis=0)
    x = np.geomspace(25e3, 2e6, 8)
    ladder = (2 + 30 / x**0.25) * np.exp(0.005 * np.random.default_rng(0).standard_normal(8))
    power = statistics.median(timed(lambda: fit_power_law(x, ladder, bootstrap=1000))[0] for _ in range(5))
    pooled, answer = timed(lambda: fit_joint(n, d, y).interval(1e11, 2e12, kind="new_run"))
    assert answer[0] < answer[1]
    slider = fit_joint(n, d, y)
    slider.interval(1e11, 2e12)
    wide = np.geomspace(1e8, 1e12, 300)
    redraw = statistics.median(timed(lambda: slider.interval(wide, 20 * wide))[0] for _ in range(5))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows = [
        f"| Chinchilla's law, {len(grid):,} starts and the second route | {all_starts:.2f} s | under 3 s |",
        f"| objective reached | {reached:.7g} | 1.018275e-3 or less |",
        f"| a start | {1e3 * each:.3f} ms | |",
        f"| 4,000 case-bootstrap draws, 9 starts in each | {draws:.1f} s | under 60 s |",
        f"| their standard errors of E, alpha, beta | {spread[0]:.3f}, {spread[3]:.4f}, {spread[4]:.4f} "
        "| .026, .015, .021 (printed by Epoch) |",
        f"| a power law with 1,000 draws, 8 runs, median of 5 | {power:.2f} s | under 0.3 s |",
        f"| a pooled fit of the 240 runs, with an interval | {pooled:.2f} s | under 0.5 s |",
        f"| a redraw: its interval at 300 points, median of 5 | {1e3 * redraw:.0f} ms | under 50 ms |",
        f"| largest memory of the process so far | {memory:.2f} GiB | under 1 GB |",
    ]
    if (other := reference(table)) is not None:
        version = importlib.metadata.version("chinchilla")
        rows += [
            f"| `chinchilla` {version}, a start (108 of the same box, one process, its default precision) "
            f"| {1e3 * other[0]:.1f} ms | |",
            f"| the objective it reaches | {other[1]:.7g} | |",
            f"| ratio, a start | {other[0] / each:.0f}x | 30x or more |",
        ]
    return rows


def section(rows: list[str]) -> str:
    """Return the section of RESULTS.md."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("numpy", "scipy"))
    return "\n".join(
        [
            TITLE,
            "",
            f"`python benchmarks/bench_fit.py --write`: one run, {os.cpu_count()} cores ({platform.machine()}), Python "
            f"{platform.python_version()}, {versions}. The machine was shared with other work while it ran (load "
            f"{os.getloadavg()[0]:.1f}), so read times as upper bounds and the ratio as the firmer number.",
            "",
            "| | measured | aim |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def write(text: str) -> None:
    """Put the section into RESULTS.md: in place of the old one, else at the end."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Benchmarks\n"
    pattern = re.compile(rf"^{re.escape(TITLE)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    new = pattern.sub(lambda _: text + "\n", old) if pattern.search(old) else f"{old.rstrip()}\n\n{text}"
    RESULTS.write_text(new.rstrip() + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print, and with ``--write`` keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    keep = parser.parse_args().write
    text = section(measure())
    print(text)
    if keep:
        write(text)


if __name__ == "__main__":
    main()

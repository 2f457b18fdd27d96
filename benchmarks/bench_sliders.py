"""How long a slider takes from a new value to a new picture: the median of 40 moves.

python benchmarks/bench_sliders.py             # some seconds
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np

from scaling_lib.fit import published
from scaling_lib.runs import shipped
from scaling_lib.show.sliders import BudgetPlanner, Explorer, IsoFlopLab, LawByHand, our_source, published_source


def milliseconds(move: Callable[[float], None], values: Iterable[float]) -> float:
    times = []
    for value in values:
        began = time.perf_counter()
        move(value)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    law = published.laws["chinchilla-epoch"]
    ours = our_source(shipped("laptop"))
    rows = []
    for source in (published_source(), ours):
        explorer = Explorer([source])
        rows.append((f"explorer, {source.title}", explorer.n, np.logspace(5, 12, 40)))
    hand = LawByHand(ours.n_params, ours.loss)
    rows.append(("law by hand", hand.exponent, np.linspace(0.05, 1.0, 40)))
    rows.append(("IsoFLOP lab", IsoFlopLab(law).offset, np.linspace(-2, 2, 40)))
    rows.append(("budget planner", BudgetPlanner(ours).hours, np.logspace(0, 3, 40)))
    for name, slider, values in rows:
        print(f"{name:>50}: {milliseconds(lambda v, s=slider: setattr(s, 'value', float(v)), values):.0f} ms")


if __name__ == "__main__":
    main()

"""The budget planner: FLOPs, hours or money, on a laptop, a GPU or a cluster, and the run that a law would choose."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.show.extrapolation import plot_parts
from scaling_lib.show.ladders import short
from scaling_lib.show.sliders.canvas import BLUE, ORANGE, Canvas
from scaling_lib.show.sliders.panel import (
    LogSlider,
    Panel,
    amount,
    button,
    dropdown,
    indented,
    judged,
    scientific,
    slider,
)
from scaling_lib.show.sliders.sources import JointLaw

HOURS = (-2.0, 5.0)  # log10: from half a minute to eleven years


class Machine(NamedTuple):
    """Sustained training FLOPs per second, and an assumed price in dollars per hour; both may be changed."""

    name: str
    flops_per_second: float
    dollars_per_hour: float


# The laptop's rate is measured (benchmarks/RESULTS.md). A GPU's is assumed to be 40%, in a cluster 35%, of an H100's
# printed dense bf16 peak of 989 TFLOP/s. Prices are assumptions.
MACHINES = (
    Machine("a laptop, two cores", 2e11, 0.05),
    Machine("one H100", 0.4 * 9.89e14, 3.0),
    Machine("a cluster of 1,024 H100", 1024 * 0.35 * 9.89e14, 3072.0),
)


class BudgetPlanner(Panel):
    """Sliders for hours, money and compute, tied together by machine and price, and what a law would train with them.

    Parameters
    ----------
    source : the law; see ``our_source`` and ``published_source``.
    """

    def __init__(self, source: JointLaw) -> None:
        self._source = source
        self.canvas = Canvas(alt="The loss of the best spent budget against compute, with the chosen budget")
        self.machine = dropdown("machine", "what does the training", [(m.name, m) for m in MACHINES], value=MACHINES[1])
        self.machine.observe(self._machine_chosen, names="value")
        self.price, self.hours, self.money, self.compute = (
            slider(LogSlider, name, tip, moved, say, min=low, max=high, step=0.01)
            for name, tip, moved, say, low, high in (
                ("price (dollars per hour)", "of the machine; an assumption to change", self.moved, amount, -2, 4),
                ("time (hours)", "hours of training", self.moved, amount, *HOURS),
                ("money (dollars)", "time x price: moving it moves the time", self._money_moved, amount, -4, 9),
                ("compute C = 6ND (FLOPs)", "time x speed: moving it moves the time", self._compute_moved, scientific,
                 9, 28),
            )
        )  # fmt: skip
        self.reset = button("reset", "back to the beginning", self.home, icon="undo")
        self.assemble(self.machine, self.price, self.hours, self.money, self.compute, indented(self.reset))
        self.home()

    @property
    def flops(self) -> float:
        """The budget in FLOPs."""
        return float(self.machine.value.flops_per_second * self.hours.value * 3600)

    @property
    def dollars(self) -> float:
        """What it costs at the price."""
        return float(self.hours.value * self.price.value)

    # ---- moving

    def home(self) -> None:
        """A day on one H100; for a law of our own an hour on the laptop."""
        machine, hours = (MACHINES[0], 1.0) if self._source.is_ours else (MACHINES[1], 24.0)
        self.set(machine=machine, hours=hours, price=machine.dollars_per_hour)

    def _machine_chosen(self, change: Any) -> None:
        if not self.busy:
            self.set(price=change["new"].dollars_per_hour)

    def _money_moved(self, _: Any) -> None:
        self._take(self.money.value / self.price.value)

    def _compute_moved(self, _: Any) -> None:
        self._take(self.compute.value / (3600 * self.machine.value.flops_per_second))

    def _take(self, hours: float) -> None:
        if not self.busy:
            self.set(hours=float(np.clip(hours, 10.0 ** HOURS[0], 10.0 ** HOURS[1])))

    def moved(self, _: Any = None) -> None:
        if not self.busy:
            with self.quietly():
                self.money.value, self.compute.value = self.dollars, self.flops
            self.update()

    # ---- drawing

    def draw(self) -> None:
        axes, source = self.canvas.figure.subplots(), self._source
        least, most = (6 * n * d for n, d in zip(source.n_range, source.d_range, strict=True))
        c = np.unique(np.append(np.geomspace(min(1e13, least / 10), 1e28, 80), (least, most)))
        best = compute_optimal(source.law, c, judge=False)
        refused = [source.verdict(n, d).refused for n, d in zip(best.n_params, best.n_tokens, strict=True)]
        loss, *ends = (np.where(refused, np.nan, np.asarray(y)) for y in (best.loss, *(best.loss_interval or ())))
        axes.set(xscale="log", xlim=(c[0], c[-1]), xlabel="compute C = 6ND (FLOPs)")
        axes.set_ylabel("loss of the budget spent best (nats per token)")
        axes.set_title(f"Losses on {source.text}")
        shown = np.asarray(best.loss) if all(refused) else loss  # a law that is refused everywhere leaves empty axes
        self._bottom = 0.9 * float(np.nanmin(shown))
        axes.set_ylim(self._bottom, min(float(np.nanmax(shown)), 8.0))
        plot_parts(axes, c, loss, (least, most), ends, BLUE)
        axes.plot([], [], "D", color=ORANGE, markersize=9, label="your budget")
        axes.legend(loc="upper right")
        self._drop = self.canvas.moving(axes.plot([], [], color=ORANGE, linewidth=1, linestyle=":")[0])
        self._here = self.canvas.moving(axes.plot([], [], "D", color=ORANGE, markersize=9)[0])

    def update(self) -> None:
        """Spend the budget, mark it, and say what it buys."""
        best = compute_optimal(self._source.law, self.flops, judge=False)
        verdict = self._source.verdict(best.n_params, best.n_tokens)
        self._here.set_data([] if verdict.refused else [self.flops], [] if verdict.refused else [best.loss])
        self._drop.set_data([self.flops] * 2, [self._bottom, 99.0 if verdict.refused else best.loss])
        self.canvas.redraw()
        spread = ""
        if best.loss_interval is not None:
            low, high = best.loss_interval
            spread = f", {best.level:.0%} interval of the law's mean {low:.3f} to {high:.3f}"
        self.say(
            f"{amount(self.hours.value)} hours, {amount(self.dollars)} dollars at that price, "
            f"{scientific(self.flops)} FLOPs.",
            *judged(
                verdict,
                f"Spent best by this law: <b>N* = {short(best.n_params)}</b> parameters, "
                f"<b>D* = {short(best.n_tokens)}</b> tokens ({best.tokens_per_param:.3g} tokens per parameter).",
                f"<b>{best.loss:.3f} nats per token</b>{spread}.",
            ),
        )

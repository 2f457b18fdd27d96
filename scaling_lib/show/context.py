"""When models begin to use what stands earlier in their window: the loss by position, along the training.

From ``records/context.csv``, which ``benchmarks/study_context.py`` measures on trunks of the laptop sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.show.records import read_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AGAIN, FIRST = "random again", "random"


@dataclass(frozen=True)
class ContextCurve:
    """One model along its trunk.

    n_tokens : float (m,), tokens seen. loss : band of positions such as ``"64-127"`` -> float (m,), nats per token of
        the validation text; ``"random"`` and ``"random again"``: random tokens, and the same ones said a second time.
    """

    model: str
    n_tokens: np.ndarray
    loss: dict[str, np.ndarray]

    @property
    def bands(self) -> list[str]:
        """The bands of positions, first to last."""
        return [name for name in self.loss if name not in (AGAIN, FIRST)]

    @property
    def gain(self) -> np.ndarray:
        """Loss in the first band less loss in the last: what a long context is worth, nats (m,)."""
        return self.loss[self.bands[0]] - self.loss[self.bands[-1]]

    @property
    def copying(self) -> np.ndarray:
        """Loss of random tokens less loss of the same tokens said again, nats (m,): copying alone."""
        return self.loss[FIRST] - self.loss[AGAIN]

    def at(self, values: np.ndarray, n_tokens: float) -> float:
        """``values`` (m,) at a number of tokens, between measurements in proportion."""
        if not self.n_tokens[0] <= n_tokens <= self.n_tokens[-1]:
            raise InputError(f"n_tokens={n_tokens:g} lies outside the curve, 0 to {self.n_tokens[-1]:,.0f}")
        return float(np.interp(n_tokens, self.n_tokens, values))


@lru_cache(maxsize=1)
def context_curves() -> dict[str, ContextCurve]:
    """The measured curves by model, smallest first."""
    rows = read_records("context")
    found = {}
    for model in sorted({r["model"] for r in rows}, key=lambda m: int(m.split("x")[1])):
        own = [r for r in rows if r["model"] == model]
        bands = list(dict.fromkeys(r["where"] for r in own))
        tokens = np.array([float(r["n_tokens"]) for r in own if r["where"] == bands[0]])
        found[model] = ContextCurve(
            model, tokens, {b: np.array([float(r["loss"]) for r in own if r["where"] == b]) for b in bands}
        )
    return found


def plot_context(what: str = "gain", axes: Axes | None = None) -> Axes:
    """Draw what a long context is worth (``"gain"``), or copying alone (``"copying"``), along the training."""
    import matplotlib.pyplot as plt

    from scaling_lib.show.plot import count_axis, shades

    if what not in ("gain", "copying"):
        raise InputError(f"what={what!r}: choose gain or copying")
    if axes is None:
        axes = plt.subplots()[1]
    curves = context_curves()
    for curve, colour in zip(curves.values(), shades(len(curves)), strict=True):
        seen = curve.n_tokens > 0
        axes.plot(curve.n_tokens[seen], getattr(curve, what)[seen], "o-", color=colour, markersize=4, label=curve.model)
    axes.axhline(0, color="#888888", linestyle=":", linewidth=1.2)
    count_axis(axes)
    axes.set_xlabel("training tokens seen, constant rate")
    bands = next(iter(curves.values())).bands
    said = (
        f"loss at positions {bands[0]} less {bands[-1]}" if what == "gain" else "random tokens, first time less second"
    )
    axes.set_ylabel(f"{said} (nats)", fontsize="medium")
    axes.legend(title="model")
    return axes

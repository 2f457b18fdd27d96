"""What one law says of the known models: a panel for one law alone, since it has its own text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.published import Model
from scaling_lib.show.plot import FAINT, GREY, count_axis, look, new_axes, say_no

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scaling_lib.show.sliders.sources import JointLaw

CROWDED = 0.25  # decades: a name goes to the right of its line where another line is that close on its left
EACH = 20.0  # tokens for a parameter, as Chinchilla has it
JOINT = ("chinchilla-epoch", "kaplan-joint")
MODELS = ("GPT-3 175B", "GPT-4 (rumour)", "Llama 3 405B")


def known_models(names: Sequence[str] = MODELS) -> list[Model]:
    """Published models by name, in that order; raises InputError for a name that is none."""
    by_name = {m.name: m for m in published.models()}
    for name in names:
        if name not in by_name:
            raise InputError(f"no published model is called {name!r}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names]


def plot_at_models(source: JointLaw, axes: Axes | None = None) -> Axes:
    """Draw a law against N at 20 tokens for each parameter, and each known model at its own N and D.

    Solid where both N and D lie within those that were fitted, dashed beyond; a band where the law has an interval. A
    model of which the law's verdict refuses to speak gets a line and no mark, and the law ends where its verdict does.
    """
    axes = axes or new_axes()
    blue, orange, models = look(0)[0], look(1)[0], known_models()
    first, last = (f(n, d / EACH) for f, n, d in zip((max, min), source.n_range, source.d_range, strict=True))
    n = np.unique(np.append(np.logspace(np.log10(first) - 0.5, 13, 120), (first, last)))
    n = n[[not source.verdict(x, EACH * x).refused for x in n]]
    loss = source.predict(n, EACH * n)
    ends = source.interval(n, EACH * n, 0.9) if source.has_interval else ()
    plot_parts(axes, n, loss, (first, last), ends, blue)
    told = [m for m in models if not source.verdict(m.n_params, m.n_tokens).refused]
    if told:
        x = np.array([m.n_params for m in told])
        y = source.predict(x, np.array([m.n_tokens for m in told]))
        axes.plot(x, y, "D", color=orange, markersize=6, linestyle="none", label="models, at their own D")
    axes.set_xlim(first / 10**0.5, 1e13)
    count_axis(axes)
    if n.size and n[-1] < 9e12:
        say_no(axes, n[-1], loss[-1], blue)
    mark_models(axes, models)
    axes.set_xlabel(f"parameters N, {source.counting}; {EACH:g} tokens for each")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title(f"Losses on {source.text}")
    return axes


def plot_parts(
    axes: Axes, x: np.ndarray, loss: np.ndarray, runs: tuple[float, float], ends: Sequence[np.ndarray], colour: str
) -> None:
    """Draw a law, solid within its ``runs`` and dashed beyond, with the ``ends`` of its band if there are any.

    ``x`` holds both ends of the runs, which the solid part and the dashed ones share.
    """
    axes.axvspan(*runs, color="black", alpha=0.06, linewidth=0, label="range of the runs")
    inside, below, above = (x >= runs[0]) & (x <= runs[1]), x <= runs[0], x >= runs[1]
    for part, style, label in ((inside, "-", "law within it"), (below, "--", None), (above, "--", "and beyond")):
        axes.plot(x[part], loss[part], color=colour, linestyle=style, label=label)
    if len(ends):
        axes.fill_between(x, ends[0], ends[1], color=colour, alpha=0.25, linewidth=0, label="90% interval of the mean")


def mark_models(axes: Axes, models: Sequence[Model], variable: str = "N") -> None:
    """A dotted line for each model at its N or D, with its name along it."""
    before = 0.0
    for at, name in sorted((m.n_params if variable == "N" else m.n_tokens, m.name) for m in models):
        axes.axvline(at, color=FAINT, linewidth=0.8, linestyle=":")
        crowded = before > 0 and at / before < 10**CROWDED
        axes.text(at, 0.98, f" {name} ", rotation=90, fontsize="small", color=GREY, va="top",
                  ha="left" if crowded else "right", transform=axes.get_xaxis_transform())  # fmt: skip
        before = at

"""The extrapolation explorer: choose N and D, or a budget, and see what a law says there and how far that is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.result import FitResult, Verdict
from scaling_lib.show.ladders import short
from scaling_lib.show.sliders.canvas import Canvas
from scaling_lib.show.sliders.explorer_panels import Law1D, draw_panels
from scaling_lib.show.sliders.panel import (
    LogSlider,
    Panel,
    button,
    dropdown,
    indented,
    paragraph,
    row,
    scientific,
    sentence,
    slider,
    stack,
)
from scaling_lib.show.sliders.sources import JointLaw

LEVELS = (0.5, 0.8, 0.9, 0.95)
TOP_N, TOP_D = 13.5, 14.5  # log10: some ten times the largest that is spoken of
KNOWN = ("GPT-3 175B", "Chinchilla", "Llama 3 405B", "GPT-4 (rumour)")


class Explorer(Panel):
    """Sliders for N, D or a budget over one or more laws; the last line of a notebook cell shows it.

    Parameters
    ----------
    sources : the laws to choose from; see ``our_source`` and ``published_source``. Only one is shown at a time:
        their losses belong to different texts and may not share an axis.
    """

    def __init__(self, sources: Sequence[JointLaw]) -> None:
        if not sources:
            raise InputError("Explorer needs at least one law: our_source(runs) or published_source(name)")
        self._sources = {s.title: s for s in sources}
        if len(self._sources) < len(sources):
            raise InputError("two of the laws have one title; give one of them another")
        self._models = {m.name: m for m in published.models() if m.name in KNOWN}
        alt = "Loss against parameters and against tokens, with the law, its band and the data"
        self.canvas = Canvas(alt=alt, shares=(1, 1))
        self._build_controls(list(self._sources))
        with self.canvas.style():
            self._axes = [part.subplots() for part in self.canvas.parts]
        self._panels: list[Law1D] = []
        self._budgets = (1.0, 1.0)
        self.show_law()

    # ---- controls

    def _build_controls(self, titles: list[str]) -> None:
        self.law = dropdown("law", "whose law: each on its own text", titles)
        self.law.observe(lambda _: self.show_law(), names="value")
        self.by = ipywidgets.ToggleButtons(
            options=[("N and D", "nd"), ("a budget, spent best", "budget")],
            tooltips=["set parameters and tokens", "set compute; N and D follow from the law"],
            style={"button_width": "auto"},
        )  # fmt: skip
        self.by.observe(self._moved, names="value")
        self.n, self.d, self.c = (
            slider(LogSlider, name, tip, self._moved, step=0.02)
            for name, tip in (
                ("parameters N", "number of parameters"),
                ("training tokens D", "number of training tokens"),
                ("compute C = 6ND (FLOPs)", "training compute in floating-point operations"),
            )
        )
        self.level = dropdown(
            "interval", "how often the interval should hold", [(f"{v:.0%}", v) for v in LEVELS], "330px", value=0.9
        )
        self.level.observe(self._moved, names="value")
        self.jump = ipywidgets.Dropdown(
            options=[("go to a known model ...", "")] + [(name, name) for name in self._models],
            tooltip="sets N and D to those of the model",
            layout=ipywidgets.Layout(width="210px"),
        )
        self.jump.observe(self._jumped, names="value")
        self.reset = button("reset", "back to the largest run", self.home, icon="undo")
        self.text = ipywidgets.HTML()
        self.widget = stack(
            *([self.law] if len(titles) > 1 else []), indented(self.by),
            row(self.n, short), row(self.d, short), row(self.c, scientific),
            ipywidgets.HBox([self.level, self.jump, self.reset]), self.canvas.widget, self.text,
        )  # fmt: skip

    @property
    def source(self) -> JointLaw:
        """The law that is shown."""
        return self._sources[self.law.value]

    def home(self) -> None:
        """Back to the largest run of the law."""
        self._set_home()
        self._moved(None)

    def _set_home(self) -> None:
        s = self.source
        with self.quietly():
            self.jump.value, self.level.value, self.by.value = "", 0.9, "nd"
            if len(s.loss):
                last = int(np.argmax(s.n_params * s.n_tokens))
                self.n.value, self.d.value = float(s.n_params[last]), float(s.n_tokens[last])
            else:
                self.n.value, self.d.value = s.n_range[1], s.d_range[1]
            self.c.value = 6 * self.n.value * self.d.value

    def _jumped(self, change: Any) -> None:
        if change["new"] and not self.busy:
            model = self._models[change["new"]]
            with self.quietly():
                self.by.value = "nd"
                self.n.value, self.d.value = model.n_params, model.n_tokens
            self._moved(None)

    def _moved(self, _: Any) -> None:
        if self.busy:
            return
        with self.quietly():
            if self.by.value == "budget":
                self.c.value = float(np.clip(self.c.value, *self._budgets))
                best = compute_optimal(self.source.law, self.c.value, draws=0, judge=False)
                self.n.value, self.d.value = best.n_params, best.n_tokens
            else:
                self.c.value = 6 * self.n.value * self.d.value
            model = self._models.get(self.jump.value)
            if model and not np.allclose((self.n.value, self.d.value), (model.n_params, model.n_tokens), rtol=1e-6):
                self.jump.value = ""  # the sliders have left it
        self.update()

    def _set_ends(self) -> None:
        """Sliders from half a decade below the smallest runs; budgets whose best N and D lie on the sliders."""
        s = self.source
        with self.quietly():
            self.n.max, self.d.max, self.c.max = TOP_N, TOP_D, TOP_N + TOP_D + 0.8  # log10 of 6 is 0.78
            self.n.min = max(np.log10(s.n_range[0]) - 0.5, 3.0)
            self.d.min = max(np.log10(s.d_range[0]) - 0.5, 4.0)
            self.c.min = self.n.min + self.d.min + 0.7
        tried = np.arange(self.c.min, self.c.max, 0.02)
        best = compute_optimal(s.law, 10.0**tried, draws=0, judge=False)
        n, d = np.log10(best.n_params), np.log10(best.n_tokens)
        on = tried[(n > self.n.min) & (n < TOP_N) & (d > self.d.min) & (d < TOP_D)]
        self.by.disabled = not on.size  # a law that is flat in N or D has no best split that the sliders could show
        if on.size:
            self._budgets = (10.0 ** on[0], 10.0 ** on[-1])
        else:
            self.by.value = "nd"

    # ---- drawing

    def show_law(self) -> None:
        """Draw the panels of the chosen law anew, and go to its largest run."""
        # Ends and values in one message for each slider: between the two a browser would report the old value, moved to
        # the nearest end. What is disabled must not be in it: the browser passes over that where a value comes along.
        with self.n.hold_sync(), self.d.hold_sync(), self.c.hold_sync():
            self._set_ends()
            self._set_home()
        with self.canvas.style():  # ticks and grid lines take their looks when they are first drawn
            self.canvas.clear()
            ends = ((self.n.min, TOP_N), (self.d.min, TOP_D))
            self._panels = draw_panels(self.canvas, self._axes, self.source, ends, list(self._models.values()))
            self.canvas.freeze()
        self._moved(None)

    def update(self) -> None:
        """Move the law, its band and the marker to the sliders, and say in words what they mean."""
        self.n.disabled = self.d.disabled = self.by.value == "budget"
        self.c.disabled = self.by.value != "budget"
        n, d, level = self.n.value, self.d.value, self.level.value
        verdict = self.source.verdict(n, d)
        for panel in self._panels:
            panel.move(n, d, level, refused=verdict.refused)
        self.canvas.redraw()
        self.text.value = paragraph(
            f"<b>N = {short(n)}</b> parameters, <b>D = {short(d)}</b> tokens, {d / n:.3g} tokens per parameter, "
            f"C = {scientific(6 * n * d)} FLOPs.",
            *self._say(n, d, level, verdict),
            "This law's best split of a budget lies beyond the sliders." if self.by.disabled else "",
        )

    def _say(self, n: float, d: float, level: float, verdict: Verdict) -> tuple[str, ...]:
        s = self.source
        why = sentence(escape("; ".join(verdict.reasons)))
        if verdict.refused:
            return (f"<b>No prediction: {verdict.level}.</b> {why}",)
        said = f"<b>{float(s.law.predict(n, d)):.3f} nats per token</b>"
        if not s.has_interval:
            said += "; this law was published without a covariance: no interval can be given"
        elif isinstance(s.law, FitResult):
            low, high = s.law.interval(n, d, level=level, kind="new_run")
            said += f", {level:.0%} interval of a new run {low:.3f} to {high:.3f}"
        else:
            low, high = s.law.interval(n, d, level=level)
            said += f", {level:.0%} interval of the law's mean {low:.3f} to {high:.3f}"
        return f"{said}.", f"Verdict: <b>{verdict.level}</b>. {why}"

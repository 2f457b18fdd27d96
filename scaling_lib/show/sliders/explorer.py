"""The extrapolation explorer: choose N and D, or a budget, and see what a law says there and how far that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.result import FitResult
from scaling_lib.show.extrapolation import known_models
from scaling_lib.show.ladders import short
from scaling_lib.show.sliders.canvas import Canvas
from scaling_lib.show.sliders.explorer_panels import Law1D
from scaling_lib.show.sliders.panel import LogSlider, Panel, button, dropdown, indented, judged, scientific, slider
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
        self._models = {m.name: m for m in known_models(KNOWN)}
        alt = "Loss against parameters and against tokens, with the law, its band and the data"
        self.canvas = Canvas(alt=alt, shares=(1, 1))
        self._build_controls()
        self._draw_law()

    # ---- controls

    def _build_controls(self) -> None:
        self.law = dropdown("law", "whose law: each on its own text", list(self._sources))
        self.law.observe(lambda _: self._draw_law(), names="value")
        self.by = ipywidgets.ToggleButtons(
            options=[("N and D", "nd"), ("a budget, spent best", "budget")],
            tooltips=["set parameters and tokens", "set compute; N and D follow from the law"],
            style={"button_width": "auto"},
        )  # fmt: skip
        self.n, self.d, self.c = (
            slider(LogSlider, name, tip, self.moved, say, step=0.02)
            for name, tip, say in (
                ("parameters N", "number of parameters", short),
                ("training tokens D", "number of training tokens", short),
                ("compute C = 6ND (FLOPs)", "training compute in floating-point operations", scientific),
            )
        )
        levels = [(f"{v:.0%}", v) for v in LEVELS]
        self.level = dropdown("interval", "how often the interval should hold", levels, "330px", value=0.9)
        for one in (self.by, self.level):
            one.observe(self.moved, names="value")
        self.jump = ipywidgets.Dropdown(
            options=[("go to a known model ...", "")] + [(name, name) for name in self._models],
            tooltip="sets N and D to those of the model",
            layout=ipywidgets.Layout(width="210px"),
        )
        self.jump.observe(self._jumped, names="value")
        self.reset = button("reset", "back to the largest run", self.home, icon="undo")
        self.assemble(
            *([self.law] if len(self._sources) > 1 else []), indented(self.by), self.n, self.d, self.c,
            ipywidgets.HBox([self.level, self.jump, self.reset]),
        )  # fmt: skip

    @property
    def source(self) -> JointLaw:
        """The law that is shown."""
        return self._sources[self.law.value]

    def home(self) -> None:
        """Back to the largest run of the law."""
        s = self.source
        n, d = s.n_range[1], s.d_range[1]
        if len(s.loss):
            last = int(np.argmax(s.n_params * s.n_tokens))
            n, d = float(s.n_params[last]), float(s.n_tokens[last])
        self.set(jump="", level=0.9, by="nd", n=n, d=d, c=6 * n * d)

    def _jumped(self, change: Any) -> None:
        if change["new"] and not self.busy:
            model = self._models[change["new"]]
            self.set(by="nd", n=model.n_params, d=model.n_tokens)

    def moved(self, _: Any = None) -> None:
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

    def draw(self) -> None:
        self._axes = [part.subplots() for part in self.canvas.parts]

    def _draw_law(self) -> None:
        """Draw the panels of the chosen law anew, and go to its largest run."""
        with self.canvas.style():  # ticks and grid lines take their looks when they are first drawn
            self._panels: list[Law1D] = []
            # Ends and values in one message for each slider: between the two a browser would report the old value,
            # moved to the nearest end. What is disabled must not be in it: the browser passes over that where a value
            # comes along.
            with self.n.hold_sync(), self.d.hold_sync(), self.c.hold_sync():
                self._set_ends()
                self.home()
            ends, models = ((self.n.min, TOP_N), (self.d.min, TOP_D)), list(self._models.values())
            self.canvas.clear()
            self._panels = [
                Law1D(self.canvas, axes, self.source, ends, models, along_n=axes is self._axes[0])
                for axes in self._axes
            ]
            self.canvas.freeze()
        self.moved()

    def update(self) -> None:
        """Move the law, its band and the marker to the sliders, and say in words what they mean."""
        if not self._panels:  # a law that is about to be drawn
            return
        self.n.disabled = self.d.disabled = self.by.value == "budget"
        self.c.disabled = self.by.value != "budget"
        n, d, level, s = self.n.value, self.d.value, self.level.value, self.source
        verdict = s.verdict(n, d)
        for panel in self._panels:
            panel.move(n, d, level, refused=verdict.refused)
        self.canvas.redraw()
        said = f"<b>{float(s.law.predict(n, d)):.3f} nats per token</b>"
        if not s.has_interval:
            said += "; this law was published without a covariance: no interval can be given"
        else:
            whose, (low, high) = "the law's mean", s.law.interval(n, d, level=level)
            if isinstance(s.law, FitResult):
                whose, (low, high) = "a new run", s.law.interval(n, d, level=level, kind="new_run")
            said += f", {level:.0%} interval of {whose} {low:.3f} to {high:.3f}"
        self.say(
            f"<b>N = {short(n)}</b> parameters, <b>D = {short(d)}</b> tokens, {d / n:.3g} tokens per parameter, "
            f"C = {scientific(6 * n * d)} FLOPs.",
            *judged(verdict, f"{said}."),
            "This law's best split of a budget lies beyond the sliders." if self.by.disabled else "",
        )

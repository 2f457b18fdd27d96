"""The extrapolation explorer: choose N and D, or a budget, and see what a law says there and how far that is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.axes import Axes

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import short
from scaling_lib.show.sliders.canvas import Canvas, band, set_band
from scaling_lib.show.sliders.quiet import Quiet
from scaling_lib.show.sliders.sources import Source

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"
LEVELS = (0.5, 0.8, 0.9, 0.95)
# log10 of the ends of the sliders: from the smallest model here to ten times the largest that is spoken of.
N_ENDS, D_ENDS, C_ENDS = (4.0, 13.5), (5.5, 14.5), (10.0, 28.0)
KNOWN = ("GPT-3 175B", "Chinchilla", "Llama 3 405B", "GPT-4 (rumour)")
WIDE = {"description_width": "150px"}


class Explorer(Quiet):
    """Sliders for N, D or a budget over one or more laws; show ``explorer.widget`` in a notebook.

    Parameters
    ----------
    sources : the laws to choose from; see ``our_source`` and ``published_source``. Only one is shown at a time:
        their losses belong to different texts and may not share an axis.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise InputError("Explorer needs at least one law: our_source(runs) or published_source(name)")
        self._sources = {s.title: s for s in sources}
        if len(self._sources) < len(sources):
            raise InputError("two of the laws have one title; give one of them another")
        self._models = {m.name: m for m in published.models() if m.name in KNOWN}
        self.canvas = Canvas(alt="Loss against parameters and against tokens, with the law, its band and the data")
        self._build_controls(list(self._sources))
        with self.canvas.style():
            self._axes = self.canvas.figure.subplots(1, 2, sharey=True)
        self._parts: list[dict[str, Any]] = []
        self.show_law()

    # ---- controls

    def _build_controls(self, titles: list[str]) -> None:
        def slider(name: str, ends: tuple[float, float], tip: str) -> ipywidgets.FloatLogSlider:
            made = ipywidgets.FloatLogSlider(
                min=ends[0], max=ends[1], step=0.02, description=name, style=WIDE, readout=False,
                tooltip=tip, layout=ipywidgets.Layout(width="560px"),
            )  # fmt: skip
            made.observe(self._moved, names="value")
            return made

        self.law = ipywidgets.Dropdown(
            options=titles, description="law", style=WIDE, tooltip="whose law: each on its own text",
            layout=ipywidgets.Layout(width="560px"),
        )  # fmt: skip
        self.law.observe(lambda _: self.show_law(), names="value")
        self.by = ipywidgets.ToggleButtons(
            options=[("N and D", "nd"), ("a budget, spent best", "budget")],
            tooltips=["set parameters and tokens", "set compute; N and D follow from the law"],
        )
        self.by.observe(self._moved, names="value")
        self.n = slider("parameters N", N_ENDS, "number of parameters")
        self.d = slider("tokens D", D_ENDS, "number of training tokens")
        self.c = slider("compute C = 6ND (FLOP)", C_ENDS, "training compute in floating point operations")
        self.level = ipywidgets.Dropdown(
            options=[(f"{level:.0%}", level) for level in LEVELS], value=0.9, description="interval", style=WIDE,
            tooltip="how often the interval should hold", layout=ipywidgets.Layout(width="250px"),
        )  # fmt: skip
        self.level.observe(self._moved, names="value")
        self.jump = ipywidgets.Dropdown(
            options=[("go to a known model ...", "")] + [(name, name) for name in self._models],
            tooltip="sets N and D to those of the model",
            layout=ipywidgets.Layout(width="230px"),
        )
        self.jump.observe(self._jumped, names="value")
        self.reset = ipywidgets.Button(description="reset", tooltip="back to the largest run", icon="undo")
        self.reset.on_click(lambda _: self.home())
        self._values = ipywidgets.HTML()
        self.text = ipywidgets.HTML()
        self.widget = ipywidgets.VBox(
            [
                self.law, self.by, self.n, self.d, self.c, self._values,
                ipywidgets.HBox([self.level, self.jump, self.reset]), self.canvas.image, self.text,
            ]
        )  # fmt: skip

    @property
    def source(self) -> Source:
        """The law that is shown."""
        return self._sources[self.law.value]

    def home(self) -> None:
        """Back to the largest run of the law."""
        s = self.source
        with self.quietly():
            self.jump.value, self.level.value, self.by.value = "", 0.9, "nd"
            if len(s.loss):
                last = int(np.argmax(s.n_params * s.n_tokens))
                self.n.value, self.d.value = float(s.n_params[last]), float(s.n_tokens[last])
            else:
                self.n.value, self.d.value = s.n_range[1], s.d_range[1]
            self.c.value = 6 * self.n.value * self.d.value
        self.update()

    def _jumped(self, change: Any) -> None:
        if change["new"]:
            model = self._models[change["new"]]
            with self.quietly():
                self.by.value = "nd"
                self.n.value, self.d.value = model.n_params, model.n_tokens
            self._moved(None)

    def _moved(self, _: Any) -> None:
        if self.busy:
            return
        budget = self.by.value == "budget"
        with self.quietly():
            if budget:
                best = compute_optimal(self.source.law, self.c.value)
                self.n.value = float(np.clip(best.n_params, 10 ** N_ENDS[0], 10 ** N_ENDS[1]))
                self.d.value = float(np.clip(best.n_tokens, 10 ** D_ENDS[0], 10 ** D_ENDS[1]))
            else:
                self.c.value = float(np.clip(6 * self.n.value * self.d.value, 10 ** C_ENDS[0], 10 ** C_ENDS[1]))
        self.update()

    # ---- drawing

    def show_law(self) -> None:
        """Draw the panels of the chosen law anew, and go to its largest run."""
        with self.canvas.style():  # ticks and grid lines take their looks when they are first drawn
            self._draw_panels()
            self.canvas.freeze()
        self.home()

    def _draw_panels(self) -> None:
        s = self.source
        self.canvas.clear()
        self._parts = []
        for axes, ends, x, label in zip(
            self._axes, (N_ENDS, D_ENDS), (s.n_params, s.n_tokens),
            (f"parameters N, {s.counting}", "training tokens D"), strict=True,
        ):  # fmt: skip
            axes.clear()
            axes.set_xscale("log")
            axes.set_xlim(10 ** ends[0], 10 ** ends[1])
            axes.set_xlabel(label)
            axes.axvspan(*(s.n_range if axes is self._axes[0] else s.d_range), color="#000000", alpha=0.06, linewidth=0)
            self._parts.append(self._panel(axes, s, x))
        lowest = float(s.predict(np.array([10 ** N_ENDS[1]]), np.array([10 ** D_ENDS[1]]))[0])
        smallest = float(s.predict(np.array([s.n_range[0]]), np.array([s.d_range[0]]))[0])
        self._axes[0].set_ylim(0.9 * lowest, 1.08 * float(s.loss.max()) if len(s.loss) else smallest)
        self._axes[0].set_ylabel("loss (nats per token)")
        self.canvas.figure.suptitle(f"Losses on {s.text}", fontsize=11)

    def _panel(self, axes: Axes, s: Source, x: np.ndarray) -> dict[str, Any]:
        if len(x):
            axes.plot(x, s.loss, "o", color=GREY, markersize=3, alpha=0.35)
        for model in self._models.values():
            at = model.n_params if axes is self._axes[0] else model.n_tokens
            axes.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
            if axes is self._axes[0]:
                axes.text(at, 0.98, model.name, rotation=90, fontsize=7, color="#555555", ha="right", va="top",
                          transform=axes.get_xaxis_transform())  # fmt: skip
        c = self.canvas
        return {
            "band": c.moving(band(axes, BLUE)),
            "near": c.moving(axes.plot([], [], "o", color="#000000", markersize=4.5)[0]),
            "inside": c.moving(axes.plot([], [], color=BLUE, linewidth=1.8)[0]),
            "outside": c.moving(axes.plot([], [], color=BLUE, linewidth=1.8, linestyle="--")[0]),
            "here": c.moving(axes.plot([], [], "D", color=ORANGE, markersize=8)[0]),
        }

    def update(self) -> None:
        """Move the law, its band and the marker to the sliders, and say in words what they mean."""
        self.n.disabled = self.d.disabled = self.by.value == "budget"
        self.c.disabled = self.by.value != "budget"
        s, n, d, level = self.source, self.n.value, self.d.value, self.level.value
        loss = float(s.predict(np.array([n]), np.array([d]))[0])
        for parts, ends, own, other, other_value, here in (
            (self._parts[0], N_ENDS, s.n_params, s.n_tokens, d, n),
            (self._parts[1], D_ENDS, s.n_tokens, s.n_params, n, d),
        ):
            x = np.logspace(*ends, 70)
            held = np.full_like(x, other_value)
            pair = (x, held) if parts is self._parts[0] else (held, x)
            y = s.predict(*pair)
            low, high = s.interval(*pair, level)
            set_band(parts["band"], x, low, np.minimum(high, 50.0))
            ran = s.n_range if parts is self._parts[0] else s.d_range
            within = (x >= ran[0]) & (x <= ran[1])
            parts["inside"].set_data(x, np.where(within, y, np.nan))
            parts["outside"].set_data(x, np.where(within, np.nan, y))
            near = np.abs(np.log(other / other_value)) < np.log(1.3) if len(other) else np.zeros(0, bool)
            parts["near"].set_data(own[near], s.loss[near])
            parts["here"].set_data([here], [loss])
        self.canvas.redraw()
        self._values.value = (
            f"<b>N</b> = {short(n)} parameters, <b>D</b> = {short(d)} tokens, {d / n:.3g} tokens per parameter, "
            f"<b>C</b> = {6 * n * d:.2g} FLOP"
        )
        self.text.value = self._words(s, n, d, loss, level)

    def _words(self, s: Source, n: float, d: float, loss: float, level: float) -> str:
        past = [
            f"{np.log10(value / largest):.1f} decades in {name} beyond the runs"
            for name, value, largest in (("N", n, s.n_range[1]), ("D", d, s.d_range[1]))
            if value > largest * 1.02
        ]
        beyond = " and ".join(past) or "not beyond the runs"
        if isinstance(s.law, FitResult):
            verdict = s.law.verdict(n, d)
            what = escape("; ".join(verdict.reasons))
            if verdict.refused:
                return f"<b>No prediction: {verdict.level}.</b> {beyond}. {what}"
            low, high = s.law.interval(n, d, level=level, kind="new_run")
            return (
                f"<b>{loss:.3f} nats per token</b>, {level:.0%} interval of a new run {low:.3f} to {high:.3f} "
                f"({beyond}). Verdict: <b>{verdict.level}</b>. {what}"
            )
        if not s.has_interval:
            return f"<b>{loss:.3f} nats per token</b> ({beyond}). Published without a covariance: no band can be drawn."
        low, high = (float(v[0]) for v in s.interval(np.array([n]), np.array([d]), level))
        return (
            f"<b>{loss:.3f} nats per token</b>, {level:.0%} interval of the law's mean {low:.3f} to {high:.3f} "
            f"({beyond}). The interval knows the scatter of the runs, not whether the form holds so far out."
        )

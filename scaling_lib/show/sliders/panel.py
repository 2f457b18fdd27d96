"""What the panels of sliders share: how they are shown, stills of them, sliders that keep what is set."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

import ipywidgets

from scaling_lib.fit.result import Verdict
from scaling_lib.show.sliders.canvas import Canvas, Picture

NAME_WIDTH = "230px"
WIDTH = "640px"
# On a phone a name stands above its slider, in the whole width, and what was indented below the sliders is not.
STYLE = """<style>
.scaling-lib-panel .scaling-lib-indent { margin: 2px 2px 2px 236px; }
@media (max-width: 540px) {
  .scaling-lib-panel .widget-inline-hbox, .scaling-lib-panel .widget-hbox { flex-wrap: wrap; height: auto; }
  .scaling-lib-panel .widget-inline-hbox { width: 100% !important; max-width: 100% !important; }
  .scaling-lib-panel .widget-inline-hbox > .widget-label { width: 100% !important; text-align: left; }
  .scaling-lib-panel .widget-inline-hbox > select { flex: 1 1 100%; }
  .scaling-lib-panel .scaling-lib-indent { margin-left: 2px; }
}
</style>"""


class Panel:
    """Controls, a picture and words; as the last line of a notebook cell it shows itself.

    widget : all of it. canvas : the picture. text : the words, as HTML. A panel makes its controls and hands them to
    ``assemble``, draws in ``draw`` what stands still, and moves the rest in ``update``.
    """

    widget: ipywidgets.VBox
    canvas: Canvas
    text: ipywidgets.HTML
    busy = False
    stills: tuple[Picture, ...] = ()  # that were shown

    def assemble(self, *above: ipywidgets.Widget, below: tuple[ipywidgets.Widget, ...] = ()) -> None:
        """Put the controls, in a form that a phone can show, above (or below) the picture and its words; draw it."""
        self.text = ipywidgets.HTML()
        style = ipywidgets.HTML(STYLE, layout=ipywidgets.Layout(display="none"))
        rows = [getattr(part, "row", part) for part in (*above, self.canvas.widget, self.text, *below)]
        self.widget = ipywidgets.VBox([style, *rows])
        self.widget.add_class("scaling-lib-panel")
        with self.canvas.style():
            self.draw()
            self.canvas.freeze()

    def draw(self) -> None:
        """Draw what stands still."""
        raise NotImplementedError

    def update(self) -> None:
        """Move the rest to the sliders, and say what it means."""
        raise NotImplementedError

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Inside, sliders are to be set without effect: their callbacks ask ``busy``."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def set(self, **values: Any) -> None:
        """Give controls their values, by their names, and then update once."""
        with self.quietly():
            for name, value in values.items():
                getattr(self, name).value = value
        self.moved()

    def moved(self, _: Any = None) -> None:
        """What a control calls when it was moved."""
        if not self.busy:
            self.update()

    def say(self, *lines: str) -> None:
        """Show lines of HTML, set as a text that can be read; a still that says something else goes."""
        shown = "<br>".join(line for line in lines if line)
        value = f'<div style="line-height: 1.5; max-width: 900px">{shown}</div>'
        if value != self.text.value:
            for still in self.stills:
                still.vanish()
        self.text.value = value

    def still(self) -> Picture | None:
        """The picture and its words as they stand now, for a page where nothing moves.

        It goes with the first move; run its cell again before you save the notebook.

        None on a page that Voila serves (it names itself in the environment): there the sliders move.
        """
        if os.environ.get("VOILA_REQUEST_URL"):
            return None
        still = self.canvas.still(self.text.value)
        self.stills += (still,)
        return still

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any] | None:
        bundle: dict[str, Any] | None = self.widget._repr_mimebundle_(**options)
        if bundle is not None:
            bundle["text/plain"] = f"<{type(self).__name__}: its sliders need a running kernel>"
        return bundle


class _Keeps:
    """A slider that keeps a value set by the program to the last digit.

    A browser can show only whole steps, and reports the step next to a value that it was given as if somebody had
    moved the slider there. Such a report is dropped: whoever moves it moves it by half a step or more.

    row : the slider and its value in words: all its digits, where the slider's own readout knows only whole steps.
    """

    value: float
    step: float
    row: ipywidgets.HBox

    def position(self, value: float) -> float:
        """Where the handle stands for a value, in the unit of ``step``."""
        return value

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Take what the browser reports."""
        if "value" in sync_data:
            moved = self.position(sync_data["value"]) - self.position(self.value)
            if abs(moved) <= 0.5 * self.step * (1 + 1e-6):
                sync_data = {name: value for name, value in sync_data.items() if name != "value"}
        super().set_state(sync_data)  # type: ignore[misc]


class Slider(_Keeps, ipywidgets.FloatSlider):
    """A slider of a number."""


class LogSlider(_Keeps, ipywidgets.FloatLogSlider):
    """A slider of the logarithm of a number."""

    base: float

    def position(self, value: float) -> float:
        return math.log(value) / math.log(self.base)


def slider(
    kind: type, name: str, tip: str, moved: Callable[[Any], None], say: Callable[[float], str], **options: Any
) -> Any:
    """A ``Slider`` or ``LogSlider`` with a name, a tooltip, what is called when it moves, and its value in words.

    The words are of the value that is set, which need not be the one asked for: ``moved`` may have moved it since.
    """
    made = kind(
        description=name, tooltip=tip, readout=False, style={"description_width": NAME_WIDTH},
        layout=ipywidgets.Layout(width=WIDTH, max_width="85%"), **options,
    )  # fmt: skip
    made.observe(moved, names="value")
    said = ipywidgets.Label(say(made.value))
    made.observe(lambda _: setattr(said, "value", say(made.value)), names="value")
    made.row = ipywidgets.HBox([made, said])
    return made


def indented(*parts: ipywidgets.Widget) -> ipywidgets.HBox:
    """Parts in a row below the sliders, not below their names."""
    box = ipywidgets.HBox(parts)
    box.add_class("scaling-lib-indent")
    return box


def dropdown(name: str, tip: str, options: Any, width: str = WIDTH, **others: Any) -> ipywidgets.Dropdown:
    """A menu, its name as wide as the sliders' names."""
    return ipywidgets.Dropdown(
        options=options, description=name, tooltip=tip, style={"description_width": NAME_WIDTH},
        layout=ipywidgets.Layout(width=width, max_width="85%"), **others,
    )  # fmt: skip


def button(name: str, tip: str, pressed: Callable[[], None], icon: str = "") -> ipywidgets.Button:
    """A button as wide as its name."""
    made = ipywidgets.Button(description=name, tooltip=tip, icon=icon, layout=ipywidgets.Layout(width="auto"))
    made.on_click(lambda _: pressed())
    return made


def judged(verdict: Verdict, *lines: str) -> tuple[str, ...]:
    """Lines of a prediction with its verdict, or the refusal in their place."""
    why = sentence(escape("; ".join(verdict.reasons)))
    if verdict.refused:
        return (f"<b>No prediction: {verdict.level}.</b> {why}",)
    return (*lines, f"Verdict: <b>{verdict.level}</b>. {why}")


def scientific(value: float) -> str:
    """FLOPs as people write them: 3.14e23."""
    return f"{value:.2e}".replace("e+", "e")


def amount(value: float) -> str:
    """Money or hours: two decimals, and two digits where those would say 0.00."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def sentence(text: str) -> str:
    """A capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""

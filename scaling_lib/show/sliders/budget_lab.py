"""The budget lab as a panel: choose runs, see their price, buy them, watch the interval at the hero, seal, and look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import count_axis
from scaling_lib.show.sliders.canvas import BLUE, GREY, ORANGE, Canvas
from scaling_lib.show.sliders.panel import (
    NAME_WIDTH,
    WIDTH,
    Panel,
    button,
    dropdown,
    indented,
    judged,
    scientific,
    sentence,
)

if TYPE_CHECKING:
    from scaling_lib.lab import Lab

LEVEL = 0.9


class BudgetLab(Panel):
    """Buttons and pictures over a `scaling_lib.lab.Lab`: all it does is written in the lab's ledger.

    Parameters
    ----------
    lab : of any shop; in a live one a purchase trains, and the panel waits for it.

    Attributes
    ----------
    shelf, target : the runs for sale, of which several may be chosen; the hero that is to be predicted.
    loss, low, high : the prediction that ``seal`` seals.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._path: list[tuple[float, float, float]] = []  # spent, and the interval at the hero
        self._refusal = ""  # of the last wish
        alt = "Runs by parameters and tokens: for sale, bought, the hero; the interval at the hero by what was spent"
        self.canvas = Canvas(alt=alt, shares=(1, 1))
        self.target = dropdown("hero", "the run to predict", [self._label(i) for i in lab.shop.heroes])
        self.target.observe(lambda _: self._target_chosen(), names="value")
        self.shelf = ipywidgets.SelectMultiple(
            description="for sale", rows=8, style={"description_width": NAME_WIDTH},
            layout=ipywidgets.Layout(width=WIDTH, max_width="85%"),
        )  # fmt: skip
        self.shelf.observe(lambda _: self._say_price(), names="value")
        self.price = ipywidgets.HTML()
        self.buy = button("buy", "pays for the chosen runs and shows their losses", self._doing(self._buy))
        self.ask = button("ask the adviser", "chooses what narrows the interval most", self._doing(self._ask))
        self.take = button("take the fit's", "the fit's prediction and interval", self._doing(self._take))
        self.seal = button("seal", "nothing can be bought or changed afterwards", self._doing(self._seal), icon="lock")
        self.reveal = button("run the hero", "once, after the seal", self._doing(self._reveal), icon="flag")
        self.loss, self.low, self.high = (
            ipywidgets.FloatText(description=name, layout=ipywidgets.Layout(width="180px"))
            for name in ("loss", "low", "high")
        )
        boxes = ipywidgets.HBox([self.loss, self.low, self.high], layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.assemble(
            self.target, self.shelf, indented(self.price), indented(self.buy, self.ask),
            below=(boxes, indented(self.take, self.seal, self.reveal)),
        )  # fmt: skip
        self._target_chosen()

    # ---- what the buttons do

    def _doing(self, action: Callable[[], None]) -> Callable[[], None]:
        """The action, and what it changed or why it was refused."""

        def act() -> None:
            self._refusal = ""
            try:
                action()
            except InputError as error:
                self._refusal = f'<span style="color: {ORANGE}">{sentence(escape(str(error)))}</span>'
            self.update()

        return act

    def _buy(self) -> None:
        self._lab.buy(self._chosen())
        self._remember()

    def _ask(self) -> None:
        chosen, _ = self._lab.advise(self._name(self.target.value))
        self._fill_shelf(chosen)

    def _take(self) -> None:
        fit, hero = self._lab.fit(), self._hero()
        low, high = fit.interval(hero.n, hero.d, level=LEVEL, kind="new_run")
        for box, value in zip((self.loss, self.low, self.high), (fit.predict(hero.n, hero.d), low, high), strict=True):
            box.value = round(float(value), 6)

    def _seal(self) -> None:
        self._lab.seal(self._name(self.target.value), self.loss.value, self.low.value, self.high.value)

    def _reveal(self) -> None:
        self._lab.hero()

    # ---- what is shown

    def _label(self, item: Any) -> str:
        return f"{item.name}: {short(item.n)} parameters, {short(item.d)} tokens, {scientific(item.price)}"

    @staticmethod
    def _name(label: str) -> str:
        return label.partition(": ")[0]

    def _chosen(self) -> list[str]:
        return [self._name(label) for label in self.shelf.value]

    def _hero(self) -> Any:
        return self._lab.shop.find(self._name(self.target.value), "heroes")

    def _fill_shelf(self, chosen: Sequence[str] | None = None) -> None:
        """What is not bought yet; chosen stays what was, unless it is named."""
        chosen = self._chosen() if chosen is None else chosen
        left = [i for i in self._lab.shop.items if i.name not in self._lab.losses]
        with self.quietly():
            self.shelf.options = [self._label(i) for i in left]
            self.shelf.value = [self._label(i) for i in left if i.name in chosen]
        self._say_price()

    def _say_price(self) -> None:
        if self.busy:
            return
        unit, cost = self._lab.shop.unit, self._lab.price(self._chosen())
        over = cost > self._lab.left
        said = f"{len(self.shelf.value)} chosen: {scientific(cost)} of {scientific(self._lab.left)} {unit} left"
        self.price.value = f"<b>{said}: too much</b>" if over else said
        self.buy.disabled = over or not self.shelf.value

    def _target_chosen(self) -> None:
        self._path.clear()
        self._remember()
        self.update()

    def _remember(self) -> None:
        """The interval at the hero after this purchase."""
        try:
            fit, hero = self._lab.fit(), self._hero()
        except InputError:  # too few runs yet
            return
        if not fit.verdict(hero.n, hero.d).refused:
            self._path.append((self._lab.spent, *fit.interval(hero.n, hero.d, level=LEVEL, kind="new_run")))

    def draw(self) -> None:
        plane, path = (part.subplots() for part in self.canvas.parts)
        moving, shop = self.canvas.moving, self._lab.shop
        everything = [*shop.items, *shop.heroes]
        plane.plot([i.n for i in everything], [i.d for i in everything], alpha=0)
        plane.plot([i.n for i in shop.items], [i.d for i in shop.items], "o", color=GREY, alpha=0.4, label="for sale")
        count_axis(plane)
        plane.set(yscale="log", xlabel="parameters N", ylabel="training tokens D")
        plane.yaxis.set_major_formatter(lambda value, _: short(value))
        self._own = moving(plane.plot([], [], "o", color=BLUE)[0])
        self._star = moving(plane.plot([], [], "*", color=ORANGE, markersize=14)[0])
        for marker, colour, name in (("o", BLUE, "bought"), ("*", ORANGE, "the hero")):
            plane.plot([], [], marker, color=colour, label=name)
        self.canvas.parts[0].legend(*plane.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        path.set(xlim=(0, self._lab.budget * 1.05), ylim=(0, 1), xlabel=f"spent ({shop.unit})")
        path.set_ylabel("90% interval at the hero (nats per token)")
        self._bars = moving(path.vlines([], [], [], color=BLUE, linewidth=3))
        self._truth = moving(path.axhline(-1.0, color=ORANGE, linestyle=":"))
        self._panel = path

    def update(self) -> None:
        """Show the ledger as it stands, and why the last wish was refused."""
        lab, hero = self._lab, self._hero()
        bought = [lab.shop.find(name) for name in lab.losses]
        self._own.set_data([i.n for i in bought], [i.d for i in bought])
        self._star.set_data([hero.n], [hero.d])
        self._bars.set_segments([np.array([(spent, low), (spent, high)]) for spent, low, high in self._path])
        kinds = {e["kind"]: e for e in lab.entries}
        ends = [v for _, low, high in self._path for v in (low, high)]
        if "hero" in kinds:
            self._truth.set_ydata([kinds["hero"]["loss"]] * 2)
            ends.append(kinds["hero"]["loss"])
        if ends and np.all(np.isfinite(ends)):
            pad = 0.1 * (max(ends) - min(ends)) + 0.01
            self._panel.set_ylim(min(ends) - pad, max(ends) + pad)
            with self.canvas.style():
                self.canvas.freeze()
        self.canvas.redraw()
        self._fill_shelf()
        for one in (self.buy, self.ask, self.shelf, self.target, self.take, self.seal):
            one.disabled = "seal" in kinds or (one is self.buy and one.disabled)
        self.reveal.disabled = "seal" not in kinds or "hero" in kinds
        unit = lab.shop.unit
        lines = [f"{len(bought)} runs bought, {scientific(lab.spent)} of {scientific(lab.budget)} {unit} spent."]
        if self._path:
            fit, (_, low, high) = lab.fit(), self._path[-1]
            said = f"At the hero {fit.predict(hero.n, hero.d):.3f}, 90% interval of a new run {low:.3f} to {high:.3f}."
            lines += judged(fit.verdict(hero.n, hero.d), said)
        if "seal" in kinds:
            s = kinds["seal"]
            lines.append(f"Sealed: {s['loss']:.3f}, from {s['low']:.3f} to {s['high']:.3f}; hash {s['sha256'][:12]}.")
        if "hero" in kinds:
            lines += [
                f"<b>The hero's loss is {kinds['hero']['loss']:.3f}.</b>",
                f'<pre style="font-family: monospace; line-height: 1.3">{escape(lab.score().summary())}</pre>',
            ]
        self.say(*lines, self._refusal)

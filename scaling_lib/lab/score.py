"""The score: a sealed prediction against the hero's loss, beside what a fit, a line and the nearest run would say.

The interval score [Gneiting and Raftery 2007] of a 90% interval is its width plus 20 times the miss, here as a share of
the loss: a narrow interval that is wrong scores badly, and so does one that is wide for nothing.
"""

from dataclasses import dataclass

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.backtests import interval_score, nearest, spacing
from scaling_lib.fit.design import next_runs
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import RunTable
from scaling_lib.lab.shop import Item, Shop, columns
from scaling_lib.words import aligned

LEVEL = 0.9


@dataclass(frozen=True)
class Row:
    """One prediction of the hero's loss: 90% interval, relative error, whether it held, interval score (a share)."""

    who: str
    loss: float
    low: float
    high: float
    error: float
    held: bool
    score: float


@dataclass(frozen=True)
class Score:
    """What became of a game.

    config, loss : the hero and its loss. rows : the sealed prediction first, then those of the player's runs.
    best : the target that the hero's budget should have bought, and its loss; None where it is not known (live).
    """

    config: str
    loss: float
    rows: tuple[Row, ...]
    best: tuple[str, float] | None

    def summary(self) -> str:
        """A table, and how far the hero lies from the best that its budget buys. Plain text."""
        rows = [("who", "predicts", "90% interval", "error", "held", "interval score")]
        for r in self.rows:
            numbers = f"{r.loss:.4f}", f"[{r.low:.4f}, {r.high:.4f}]", f"{100 * r.error:+.2f}%"
            rows.append((r.who, *numbers, "yes" if r.held else "no", f"{100 * r.score:.2f}%"))
        lines = [f"the hero {self.config} has a loss of {self.loss:.4f}", aligned(rows)]
        if self.best is not None:
            name, loss = self.best
            more = f"with {loss:.4f}; the loss of {self.config} is {100 * (self.loss / loss - 1):.2f}% higher"
            told = "the one that was sealed" if name == self.config else more
            lines.append(f"the best of the targets within the hero's budget is {name}, {told}")
        return "\n".join(lines)


def make_row(who: str, observed: float, loss: float, low: float, high: float) -> Row:
    """A prediction with its error and its score."""
    score = float(interval_score(observed, low, high, LEVEL))
    return Row(who, loss, low, high, loss / observed - 1.0, low <= observed <= high, score)


def rivals(table: RunTable | None, target: Item, observed: float) -> list[Row]:
    """The pooled fit, a straight line in the logarithms, and the nearest run, each on the runs of a table."""
    if table is None:
        return []
    out, x = [], (table.get("N"), table.get("D"))
    for who, law in (("pooled fit of your runs", "pool"), ("straight line", "line")):
        try:
            fit = fit_joint(*x, table.loss, law=law, groups=table.groups)
        except InputError:  # too few runs for it
            continue
        out.append(_of_fit(who, fit, target, observed))
    if len(table) > 1:
        loss = float(nearest(x, table.loss, (np.array([target.n]), np.array([target.d])))[0])
        half = spacing(x, table.loss, LEVEL)
        out.append(make_row("nearest run", observed, loss, loss * np.exp(-half), loss * np.exp(half)))
    return out


def _of_fit(who: str, fit: FitResult, target: Item, observed: float) -> Row:
    at = target.n, target.d
    return make_row(who, observed, fit.predict(*at), *fit.interval(*at, level=LEVEL, kind="new_run"))


def adviser(shop: Shop, budget: float, target: Item, observed: float) -> list[Row]:
    """What the same money would have said by `fit.design`: the cheapest three sizes x three lengths, then its advice.

    None where losses are not known (live), the budget is too small for that, or no advice follows.
    """
    opening = cheapest_square(shop)
    rest, left = [i for i in shop.items if i not in opening], budget - sum(i.price for i in opening)
    if not (shop.losses and opening and left > 0):
        return []
    try:
        advice = next_runs(_fit(shop, opening), (target.n, target.d), *columns(rest), left)
        fit = _fit(shop, [*opening, *(rest[i] for i in advice.chosen)])
    except InputError:
        return []
    return [_of_fit("fit: cheapest 3 x 3, adviser's", fit, target, observed)]


def cheapest_square(shop: Shop) -> list[Item]:
    """The nine runs of three sizes by three lengths that cost least: the least from which advice follows; or none."""
    shelf = {(i.n, i.d): i for i in shop.items}
    sizes, lengths = (sorted({key[k] for key in shelf}) for k in (0, 1))
    threes = [(sizes[a : a + 3], lengths[b : b + 3]) for a in range(len(sizes) - 2) for b in range(len(lengths) - 2)]
    squares = [[shelf[n, d] for n in ns for d in ds if (n, d) in shelf] for ns, ds in threes]
    return min((s for s in squares if len(s) == 9), key=lambda s: sum(i.price for i in s), default=[])


def _fit(shop: Shop, items: list[Item]) -> FitResult:
    n, d, _ = columns(items)
    return fit_joint(n, d, [shop.losses[i.name] for i in items], groups=[i.model for i in items])

"""A game: a budget is spent in a shop, a prediction is sealed, the hero is run, and the score is counted.

The ledger holds it all, so that a `Lab` has no state of its own: what a killed process has paid is paid, and what it
had not yet received is delivered to the next one for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.fit.design import Advice, next_runs
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import RunTable, table_from_arrays
from scaling_lib.lab.ledger import Entry, add_entries, read_ledger
from scaling_lib.lab.score import Score, adviser, make_row, rivals
from scaling_lib.lab.shop import Item, Shop, columns, find_shop, minutes

LEDGER = "ledger.json"
BUDGET_SHARE = 0.3  # of the hero's budget: what the player gets where no budget is named


def open_lab(
    folder: Path | str, shop: str | Shop | None = None, budget: float | None = None, *, unit: str = "FLOPs"
) -> Lab:
    """Open a lab in a folder: a new one, or the one that is there.

    Parameters
    ----------
    shop : by name (`find_shop`), or a `Shop`; of a lab that is there, None or the same.
    budget : in ``unit``; by default 0.3 of what the hero may cost.
    unit : ``"FLOPs"``, or ``"minutes"`` of this whole machine, measured now (live shop only).

    Raises
    ------
    InputError
        A lab that is there with another shop, corpus or budget; none there and no shop named; a budget that is no
        positive number; an unknown shop; a folder that cannot be written.
    """
    path = Path(folder) / LEDGER
    if unit not in ("FLOPs", "minutes"):
        raise InputError(f"unit={unit!r} is unknown: choose FLOPs or minutes")
    there = read_ledger(path)
    if not there and shop is None:
        raise InputError(f"{folder} holds no lab yet: open one with a shop, such as live, gemstones or laptop")
    named = there[0]["shop"] if shop is None else shop
    found = find_shop(named) if isinstance(named, str) else named
    if not there:
        prices = minutes(found) if unit == "minutes" else None
        priced = found if prices is None else found.priced(prices, unit)
        money = priced.hero_budget * BUDGET_SHARE if budget is None else budget
        if not (math.isfinite(money) and money > 0):
            raise InputError(f"a budget must be a number above 0, not {money!r}")
        first: Entry = {
            "kind": "open", **_now(), "shop": found.name, "shop_sha256": found.fingerprint, "budget": float(money),
            "unit": unit, "prices": prices,
        }  # fmt: skip
        there = add_entries(path, lambda entries: [] if entries else [first])
    start = there[0]
    if start["shop"] != found.name:
        raise InputError(f"{path} is a lab of the shop {start['shop']}, not {found.name}; open a new one elsewhere")
    if start["shop_sha256"] != found.fingerprint:
        raise InputError(
            f"{path}: the shop {found.name} has changed since the lab was opened: runs or corpus are not the same now; "
            "open a new lab in another folder"
        )
    if budget is not None and budget != start["budget"]:
        raise InputError(f"{path} was opened with a budget of {start['budget']:.4g} {start['unit']}; it cannot change")
    return Lab(path, found if start["prices"] is None else found.priced(start["prices"], start["unit"]), start)


def _now() -> dict[str, str]:
    return {"at": datetime.now(UTC).isoformat(timespec="seconds")}


class Lab:
    """A game in progress; made by `open_lab`. Every question reads the ledger anew."""

    def __init__(self, path: Path, shop: Shop, start: Entry) -> None:
        self.path, self.shop, self._start = path, shop, start

    def _same(self, entries: list[Entry]) -> list[Entry]:
        if not entries or entries[0] != self._start:
            raise InputError(f"{self.path} was replaced or deleted since this lab was opened: open it again")
        return entries

    def _add(self, make: Callable[[list[Entry]], Entry | None]) -> list[Entry]:
        """Add the entry that ``make`` returns of those so far, or none."""
        return add_entries(self.path, lambda entries: [e] if (e := make(self._same(entries))) else [])

    @property
    def entries(self) -> list[Entry]:
        """The ledger, checked."""
        return self._same(read_ledger(self.path))

    @property
    def budget(self) -> float:
        return float(self.entries[0]["budget"])

    @property
    def spent(self) -> float:
        return _spent(self.entries)

    @property
    def left(self) -> float:
        return self.budget - self.spent

    @property
    def losses(self) -> dict[str, float | None]:
        """Losses of the runs that were bought and delivered; None where one diverged."""
        return _delivered(self.entries)

    @property
    def owed(self) -> list[str]:
        """Runs that are paid for and not delivered: the process that bought them was ended."""
        return _owed(self.entries)

    def price(self, runs: str | Iterable[str]) -> float:
        """What runs would cost together; raises `InputError` for a run that is not for sale, or named twice."""
        return sum(item.price for item in self._items(runs))

    def buy(self, runs: str | Iterable[str]) -> dict[str, float | None]:
        """Pay for runs, then train or reveal them; what is owed is delivered too. Returns losses by name.

        A call that was ended on the way is repeated for nothing.

        Raises
        ------
        InputError
            A run that is not for sale, is named twice or was delivered before; more than is left; a sealed lab; a disk
            that is full. Nothing is spent then, unless the training itself fails: what is paid stays owed.
        """
        items = self._items(runs)

        def pay(entries: list[Entry]) -> Entry | None:
            _refuse(_find(entries, "seal"), "the prediction is sealed: nothing more can be bought")
            paid, delivered = _bought(entries), _delivered(entries)
            for item in items:
                _refuse(item.name in delivered, f"{item.name} was bought before")
            prices = {i.name: i.price for i in items if i.name not in paid}
            cost, left = math.fsum(prices.values()), float(entries[0]["budget"]) - _spent(entries)
            unit = self.shop.unit
            _refuse(cost > left, f"{len(prices)} run(s) cost {cost:.4g} {unit}, and {left:.4g} are left")
            return {"kind": "buy", **_now(), "runs": prices, "cost": cost, "left": left - cost} if prices else None

        self._add(pay)
        return self.deliver(i.name for i in items)

    def deliver(self, also: Iterable[str] = ()) -> dict[str, float | None]:
        """Train or reveal what is owed. Returns the losses of those, and of ``also``."""
        owed = self.owed
        if owed:
            found = self.shop.reveal(owed, self.path.parent / "runs")

            def book(entries: list[Entry]) -> Entry | None:
                new = {k: v for k, v in found.items() if k not in _delivered(entries)}
                return {"kind": "deliver", **_now(), "losses": new} if new else None

            self._add(book)
        return {name: self.losses[name] for name in dict.fromkeys([*also, *owed])}

    @property
    def table(self) -> RunTable | None:
        """The runs that were delivered, those of one model as a group; None while there are none."""
        found = [(self.shop.find(name), loss) for name, loss in self.losses.items() if loss is not None]
        if not found:
            return None
        models = [item.model for item, _ in found]
        n, d, price = columns([item for item, _ in found])
        return table_from_arrays(
            [loss for _, loss in found],
            n_params=n,
            n_tokens=d,
            flops=price if self.shop.unit == "FLOPs" else None,
            groups=models if 1 < len(set(models)) < len(models) else None,
            labels=[item.name for item, _ in found],
            source=str(self.path),
        )

    def fit(self) -> FitResult:
        """The pooled fit of the runs so far; raises `InputError` while they are too few."""
        table = self.table
        _refuse(table is None and self.owed, _undelivered(self.owed))
        if table is None:
            raise InputError("nothing is bought yet, so there is nothing to fit")
        labels = None if table.labels is None else table.labels.tolist()
        return fit_joint(table.get("N"), table.get("D"), table.loss, groups=table.groups, labels=labels)

    def advise(self, config: str) -> tuple[list[str], Advice]:
        """Names of the runs on sale that serve the prediction of a target best, for what is left, and the advice.

        Raises
        ------
        InputError
            No target of that name; runs from which no advice follows (`fit.design`); nothing left to buy.
        """
        target, bought, fit = self.shop.find(config, "heroes"), _bought(self.entries), self.fit()
        rest = [i for i in self.shop.items if i.name not in bought]
        _refuse(not rest or min(i.price for i in rest) > self.left, "nothing more can be bought")
        advice = next_runs(fit, (target.n, target.d), *columns(rest), self.left)
        return [rest[i].name for i in advice.chosen], advice

    def seal(self, config: str, loss: float, low: float, high: float) -> str:
        """Seal a target's predicted loss and its 90% interval; nothing can be bought afterwards. Returns the hash.

        The hash covers the prediction and the whole ledger before it: tell it to someone, and neither can be changed
        unnoticed.

        Raises
        ------
        InputError
            No target of that name; numbers that are no interval round a loss; a lab that is sealed, or in which nothing
            is bought, or something paid is not delivered yet.
        """
        hero = self.shop.find(config, "heroes")
        if not (all(math.isfinite(v) for v in (loss, low, high)) and 0 < low <= loss <= high and low < high):
            raise InputError(
                "a loss and its interval are wanted: finite numbers above 0, low <= loss <= high and low < high, not "
                f"{low!r}, {loss!r}, {high!r}"
            )

        def close(entries: list[Entry]) -> Entry:
            _refuse(_find(entries, "seal"), "a prediction is sealed already, and it stays")
            _refuse(not _bought(entries), "nothing is bought yet: a prediction rests on runs; buy some first")
            _refuse(_owed(entries), _undelivered(_owed(entries)))
            said = {"config": hero.name, "loss": float(loss), "low": float(low), "high": float(high)}
            return {"kind": "seal", **_now(), **said, "spent": _spent(entries)}

        sealed = _find(self._add(close), "seal")
        assert sealed is not None
        return str(sealed["sha256"])

    def hero(self) -> float:
        """Run or reveal the sealed target, once; afterwards its loss as it was booked.

        Raises
        ------
        InputError
            Before the seal; where its training failed or diverged.
        """
        sealed = self._sealed()
        if (done := _find(self.entries, "hero")) is None:
            name = str(sealed["config"])
            loss = self.shop.reveal([name], self.path.parent / "runs")[name]
            if loss is None:
                raise InputError(f"the hero {name} diverged: it has no loss to predict")
            new: Entry = {"kind": "hero", **_now(), "config": name, "loss": loss}
            done = _find(self._add(lambda entries: None if _find(entries, "hero") else new), "hero")
            assert done is not None
        return float(done["loss"])

    def score(self) -> Score:
        """The sealed prediction against the hero, beside other ways; raises `InputError` before the hero."""
        sealed, done = self._sealed(), _find(self.entries, "hero")
        if done is None:
            raise InputError("the hero has not run yet: run it first, then there is a score")
        loss, target = float(done["loss"]), self.shop.find(str(sealed["config"]), "heroes")
        own = make_row("your sealed prediction", loss, sealed["loss"], sealed["low"], sealed["high"])
        rows = (own, *rivals(self.table, target, loss), *adviser(self.shop, self.budget, target, loss))
        known = [(h.name, self.shop.losses[h.name]) for h in self.shop.heroes if h.name in self.shop.losses]
        return Score(target.name, loss, rows, min(known, key=lambda h: h[1]) if known else None)

    def _sealed(self) -> Entry:
        sealed = _find(self.entries, "seal")
        if sealed is None:
            raise InputError("no prediction is sealed: seal one before the hero runs")
        return sealed

    def _items(self, runs: str | Iterable[str]) -> list[Item]:
        names: Sequence[str] = [runs] if isinstance(runs, str) else list(runs)
        for name in names:
            _refuse(names.count(name) > 1, f"{name} is named twice")
        return [self.shop.find(name) for name in names]


def _refuse(when: object, why: str) -> None:
    if when:
        raise InputError(why)


def _find(entries: list[Entry], kind: str) -> Entry | None:
    return next((e for e in entries if e["kind"] == kind), None)


def _bought(entries: list[Entry]) -> dict[str, float]:
    return {name: float(price) for e in entries if e["kind"] == "buy" for name, price in e["runs"].items()}


def _spent(entries: list[Entry]) -> float:
    return math.fsum(_bought(entries).values())


def _owed(entries: list[Entry]) -> list[str]:
    return [name for name in _bought(entries) if name not in _delivered(entries)]


def _undelivered(names: Sequence[str]) -> str:
    return f"{', '.join(names)}: paid for and not delivered yet; buy without naming a run delivers what is owed"


def _delivered(entries: list[Entry]) -> dict[str, Any]:
    return {name: loss for e in entries if e["kind"] == "deliver" for name, loss in e["losses"].items()}

"""Shops: priced runs whose losses are known (replay) or are trained when they are bought (live).

**A run costs what it costs alone**: its training FLOPs, whatever else was bought. Runs of one size could share a trunk
(a WSD schedule), but then a price would depend on the order of buying, and a ladder of lengths would be nearly free:
nothing would be left to weigh. Live runs have schedules of their own, so the price is what is spent.

Of a grid the dearest run's price is the **hero's budget**: the target is one of the runs that cost nearly half of it or
more (which one, the player decides). For sale are those that cost at most a tenth of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from scaling_lib.config import ModelConfig, RunConfig, digest, run_id
from scaling_lib.counting import count_parameters, training_flops
from scaling_lib.errors import InputError
from scaling_lib.fit.forms import Array
from scaling_lib.fit.table import read_table
from scaling_lib.machine import cores
from scaling_lib.progress import Bar
from scaling_lib.runs import RESULTS, Run, check_poolable, find_run, read_runs
from scaling_lib.sweep.cost import calibrate
from scaling_lib.sweep.execute import load_once, run_sweep
from scaling_lib.sweep.plan import Options, make_plan
from scaling_lib.sweep.recipes import make_train_config

GEMSTONES = Path(__file__).resolve().parents[1] / "fit" / "tables" / "runs" / "gemstones.csv"
RATIO = 10.0  # the hero's budget over the dearest run for sale
LEAST_FOR_SALE, LEAST_HEROES = 9, 2
LIVE = "live"
# Of the live shop: (n_layer, n_head, d_model), steps of 16 windows of 64 tokens, and the hero's budget.
LIVE_SHAPES = ((2, 1, 16), (2, 1, 24), (2, 2, 32), (2, 3, 48), (2, 4, 64), (2, 6, 96), (2, 8, 128))
LIVE_STEPS = tuple(3000 // 2**k for k in reversed(range(5)))  # the longest takes 94% of the text: no second epoch
LIVE_CORPUS, LIVE_VOCAB, LIVE_WINDOW, LIVE_BATCH, LIVE_HERO_FLOPS = "python-stdlib", 512, 64, 16, 6e12


@dataclass(frozen=True)
class Item:
    """One run: its name, model (the runs of one model share noise), N without embeddings, tokens, and price."""

    name: str
    model: str
    n: float
    d: float
    price: float


def columns(items: Sequence[Item]) -> tuple[Array, Array, Array]:
    """N, D and price of runs, each (m,)."""
    n, d, price = np.array([(i.n, i.d, i.price) for i in items]).reshape(-1, 3).T
    return n, d, price


@dataclass(frozen=True)
class Shop:
    """What can be bought, and what is to be predicted.

    items : for sale, cheapest first. heroes : the targets to choose from. hero_budget : what the target may cost.
    losses : of all of them, in replay. cells : how to train them, live. unit : of prices. corpus : which text.
    """

    name: str
    items: tuple[Item, ...]
    heroes: tuple[Item, ...]
    hero_budget: float
    corpus: str
    losses: Mapping[str, float] = field(default_factory=dict, repr=False)
    cells: Mapping[str, RunConfig] = field(default_factory=dict, repr=False)
    unit: str = "FLOPs"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is on the shelves and of the text: a lab goes on in the same shop only."""
        shelves = [[i.name, i.n, i.d] for i in (*self.items, *self.heroes)]
        return digest({"shop": self.name, "corpus": self.corpus, "shelves": shelves, "losses": dict(self.losses)})

    def find(self, name: str, among: str = "items") -> Item:
        """The item, or (``among="heroes"``) the target of that name; raises `InputError` naming the nearest."""
        shelf: tuple[Item, ...] = getattr(self, among)
        found = next((i for i in shelf if i.name == name), None)
        if found is None:
            what = "for sale" if among == "items" else "a target"
            known = ", ".join(i.name for i in shelf[:8]) + (", ..." if len(shelf) > 8 else "")
            raise InputError(f"{name!r} is not {what} in the shop {self.name}, which has {known}")
        return found

    def priced(self, prices: Mapping[str, float], unit: str) -> Shop:
        """The same shop with other prices, such as minutes on this machine."""
        for name, price in prices.items():
            if not (np.isfinite(price) and price > 0):
                raise InputError(f"a price must be a number above 0, and {name} costs {price!r} {unit}")
        items, heroes = (tuple(replace(i, price=prices[i.name]) for i in s) for s in (self.items, self.heroes))
        return replace(self, items=items, heroes=heroes, hero_budget=max(h.price for h in heroes), unit=unit)

    def reveal(self, names: Sequence[str], folder: Path) -> dict[str, float | None]:
        """Losses of runs that are paid for: known, or trained now with records in ``folder`` (None: it diverged)."""
        if self.losses:
            return {name: self.losses[name] for name in names}
        return _train({name: self.cells[name] for name in names}, folder, self.corpus)


def find_shop(name: str) -> Shop:
    """``live``, ``gemstones``, a committed sweep such as ``laptop`` or ``entropy-hierarchy``, or a folder of records.

    Raises
    ------
    InputError
        No such shop; or a sweep that makes no game: several recipes, or too few runs at both ends.
    """
    if name == LIVE:
        return _live()
    if name == "gemstones":
        return _gemstones()
    folder = Path(name) if "/" in name else RESULTS / name
    if not folder.is_dir():
        have = ", ".join(sorted(p.name for p in RESULTS.glob("*") if (p / "runs.jsonl").exists()))
        raise InputError(f"no shop {name!r}: there are live, gemstones, folders of records, and the sweeps {have}")
    return _of_runs(name, [r for r in read_runs(folder) if r.finished and r.val_loss is not None])


def _of_runs(name: str, runs: Sequence[Run]) -> Shop:
    check_poolable(runs)
    recipes = sorted({r.config.train.recipe for r in runs})
    if len(recipes) != 1:
        raise InputError(f"{name}: a shop sells runs of one recipe, and here are {', '.join(recipes) or 'no runs'}")
    first = min(r.config.train.seed for r in runs)
    own = [r for r in runs if r.config.train.seed == first]
    items = {_name(r.config.model.name, r.config.n_tokens): r for r in own}
    if len(items) < len(own):
        raise InputError(f"{name}: several runs of one size and length; a shop sells each once")
    return _shop(
        name,
        (_item(r.config) for r in own),
        corpus=str(own[0].corpus["fingerprint"]),
        losses={key: float(r.val_loss) for key, r in items.items() if r.val_loss is not None},
    )


def _gemstones() -> Shop:
    """Published models of 50M to 2B parameters; of the 35 lengths of each those nearest to 10B, 20B, ... 320B."""
    table = read_table(GEMSTONES)
    n, d, c = (table.get(role) for role in "NDC")
    assert table.groups is not None
    wanted = 1e10 * 2.0 ** np.arange(6)
    near = {
        (g, d[table.groups == g][np.argmin(np.abs(np.log(d[table.groups == g] / w)))])
        for g in set(table.groups)
        for w in wanted
    }
    rows = [i for i in range(len(table)) if (table.groups[i], d[i]) in near]
    models = [str(g).removeprefix("Gemstone-") for g in table.groups]
    names = [_name(models[i], d[i]) for i in range(len(table))]
    items = (Item(names[i], models[i], float(n[i]), float(d[i]), float(c[i])) for i in rows)
    return _shop("gemstones", items, corpus="dolma", losses={names[i]: float(table.loss[i]) for i in rows})


def _live() -> Shop:
    cells = {}
    for shape in LIVE_SHAPES:
        for steps in LIVE_STEPS:
            model = ModelConfig(*shape, LIVE_VOCAB, LIVE_WINDOW)
            cell = RunConfig(model, make_train_config("v2", model.d_model, steps, LIVE_BATCH), LIVE_CORPUS)
            cells[_name(model.name, cell.n_tokens)] = cell
    fingerprint = load_once(LIVE_CORPUS, LIVE_VOCAB).fingerprint
    return _shop(LIVE, map(_item, cells.values()), LIVE_HERO_FLOPS, corpus=fingerprint, cells=cells)


def _shop(
    name: str, found: Iterable[Item], hero_budget: float | None = None, *, corpus: str,
    losses: Mapping[str, float] | None = None, cells: Mapping[str, RunConfig] | None = None,
) -> Shop:  # fmt: skip
    """Divide runs into those for sale and those to predict."""
    every = sorted(found, key=lambda i: (i.price, i.name))
    budget = every[-1].price if hero_budget is None else hero_budget
    items = tuple(i for i in every if i.price <= budget / RATIO)
    heroes = tuple(i for i in every if 0.45 * budget < i.price <= budget)
    if len(items) < LEAST_FOR_SALE or len(heroes) < LEAST_HEROES:
        raise InputError(
            f"{name}: {len(items)} runs could be sold and {len(heroes)} predicted; a game needs {LEAST_FOR_SALE} and "
            f"{LEAST_HEROES}: take a grid whose dearest run costs 100 times its cheapest or more"
        )
    kept = {i.name for i in (*items, *heroes)}
    known = {k: v for k, v in (losses or {}).items() if k in kept}
    return Shop(name, items, heroes, budget, corpus, known, {k: v for k, v in (cells or {}).items() if k in kept})


def _item(cell: RunConfig) -> Item:
    n = count_parameters(cell.model).non_embedding
    flops = training_flops(cell.model, cell.n_tokens)
    return Item(_name(cell.model.name, cell.n_tokens), cell.model.name, float(n), float(cell.n_tokens), float(flops))


def _name(model: str, tokens: float) -> str:
    scale, unit = (1e9, "B") if tokens >= 1e9 else (1e6, "M") if tokens >= 1e6 else (1e3, "k")
    return f"{model}-{tokens / scale:.3g}{unit}"


def _train(cells: Mapping[str, RunConfig], folder: Path, fingerprint: str) -> dict[str, float | None]:
    """Train what has no record in the folder yet, side by side; a killed call goes on where it was."""
    if cells:
        corpus = load_once(LIVE_CORPUS, LIVE_VOCAB)
        with Bar() as bar:
            told = run_sweep(make_plan(list(cells.values()), Options()), folder, corpus, on_snapshot=bar.show)
        failed = [o for o in told if o.status == "failed"]
        if failed:
            raise InputError(
                f"{failed[0].run_id} failed: {failed[0].message}; it is paid for: buy it again for nothing"
            )
    found = {name: find_run(folder, run_id(cell, fingerprint)) for name, cell in cells.items()}
    return {name: run.val_loss if run is not None and run.finished else None for name, run in found.items()}


def minutes(shop: Shop) -> dict[str, float]:
    """What a live shop's runs cost in minutes of this whole machine, its speed measured now.

    Raises
    ------
    InputError
        Of a replay shop: nothing is trained there.
    """
    if not shop.cells:
        raise InputError(f"the shop {shop.name} replays records: its budget is in FLOPs; minutes go with the shop live")
    seconds = calibrate(make_plan(list(shop.cells.values()), Options()))
    return {name: seconds[c.model] * c.n_tokens / 60.0 / cores() for name, c in shop.cells.items()}

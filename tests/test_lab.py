"""The budget game: its ledger under edits, races and kills; its rules; replay games; a live one."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from scaling_lib.counting import training_flops
from scaling_lib.errors import InputError
from scaling_lib.lab import ledger, open_lab
from scaling_lib.lab import shop as shops
from scaling_lib.lab.ledger import add_entries, read_ledger
from scaling_lib.lab.score import cheapest_square, make_row
from scaling_lib.lab.shop import Item, Shop, find_shop
from scaling_lib.runs import shipped

ROOT = Path(__file__).resolve().parents[1]


def known_shop() -> Shop:
    """A shop whose losses are a law's: 5 sizes x 5 lengths."""
    items = []
    for n in 1e6 * 2.0 ** np.arange(6):
        for d in 2e7 * 2.0 ** np.arange(6):
            items.append(Item(f"{n:.0f}-{d:.0f}", f"{n:.0f}", float(n), float(d), float(6 * n * d)))
    losses = {i.name: float(1.5 + 90.0 / i.n**0.3 + 180.0 / i.d**0.28) for i in items}
    return shops._shop("known", items, corpus="a law", losses=losses)


@pytest.fixture
def lab(tmp_path):
    return open_lab(tmp_path, known_shop(), 4e16)


# ---- the ledger ------------------------------------------------------------------


def test_the_ledger_is_chained_and_readable(tmp_path):
    path = tmp_path / "ledger.json"
    assert read_ledger(path) == []
    add_entries(path, lambda _: [{"kind": "a", "x": 1.5}, {"kind": "b"}])
    entries = add_entries(path, lambda so_far: [{"kind": "c", "of": len(so_far)}])
    assert read_ledger(path) == entries
    assert [e["kind"] for e in entries] == ["a", "b", "c"]
    assert entries[2]["of"] == 2
    assert entries[1]["before"] == entries[0]["sha256"]
    assert json.loads(path.read_text())["head"] == entries[-1]["sha256"]
    assert os.listdir(tmp_path) == ["ledger.json"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("1.5", "1.4"), ('"x"', '"y"'), ('"kind": "b"', '"kind": "d"'), ('"head": "', '"head": "0'), ("]", ""),
     ("1.5", "NaN")],
)  # fmt: skip
def test_an_edit_by_hand_is_noticed(tmp_path, old, new):
    path = tmp_path / "ledger.json"
    add_entries(path, lambda _: [{"kind": "a", "x": 1.5}, {"kind": "b"}])
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=r"ledger\.json"):
        read_ledger(path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        add_entries(path, lambda _: [{"kind": "c"}])
    assert path.read_bytes() == before


def test_entries_that_are_cut_off_or_moved_are_noticed(tmp_path):
    path = tmp_path / "ledger.json"
    add_entries(path, lambda _: [{"kind": "a"}, {"kind": "b"}, {"kind": "c"}])
    whole = json.loads(path.read_text())
    other = tmp_path / "other.json"
    add_entries(other, lambda _: [{"kind": "x"}, {"kind": "y"}])
    foreign = json.loads(other.read_text())["entries"]  # each fits its own hash, but not this chain
    one, two, three = whole["entries"]
    for entries in ([one, two], [one, three], [two, one, three], [one, foreign[1], three], [one, two, three, three]):
        path.write_text(json.dumps({**whole, "entries": entries}))
        with pytest.raises(InputError, match="by hand"):
            read_ledger(path)


def test_a_ledger_that_changed_under_a_stopped_process_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "ledger.json"
    add_entries(path, lambda _: [{"kind": "a"}])
    calls = []

    def slow(entries: list[ledger.Entry]) -> list[ledger.Entry]:
        calls.append(len(entries))
        if len(calls) == 1:  # as if this process had been stopped until its lock was taken for stale
            with monkeypatch.context() as m:
                m.setattr(ledger, "locked", lambda _: contextlib.nullcontext(True))
                add_entries(path, lambda _: [{"kind": "theirs"}])
        return [{"kind": "mine"}]

    assert [e["kind"] for e in add_entries(path, slow)] == ["a", "theirs", "mine"]
    assert calls == [1, 2]


# ---- the rules -------------------------------------------------------------------


def test_prices_add_up_and_are_training_flops(lab):
    names = [i.name for i in lab.shop.items[:3]]
    assert lab.price(names) == pytest.approx(sum(i.price for i in lab.shop.items[:3]))
    runs = {(r.counts["n_params_non_embedding"], r.config.n_tokens): r for r in shipped("laptop")}
    for item in find_shop("laptop").items:
        run = runs[item.n, item.d]
        assert item.price == training_flops(run.config.model, run.config.n_tokens)


def test_a_game_survives_a_restart(lab, tmp_path):
    square = [i.name for i in cheapest_square(lab.shop)]
    got = lab.buy(square)
    assert got == {name: lab.shop.losses[name] for name in square}
    again = open_lab(tmp_path, known_shop())
    assert again.spent == pytest.approx(again.price(square))
    assert again.left + again.spent == again.budget == 4e16
    assert again.losses == got
    advised, advice = again.advise(again.shop.heroes[-1].name)
    assert not set(advised) & set(square)
    assert again.price(advised) == pytest.approx(advice.cost.sum())
    assert advice.cost.sum() <= again.left
    hero = again.shop.heroes[-1]
    fit = again.fit()
    loss, (low, high) = fit.predict(hero.n, hero.d), fit.interval(hero.n, hero.d)
    seal = again.seal(hero.name, loss, low, high)
    assert seal == next(e for e in read_ledger(again.path) if e["kind"] == "seal")["sha256"]
    truth = 1.5 + 90.0 / hero.n**0.3 + 180.0 / hero.d**0.28
    assert again.hero() == again.hero() == truth
    assert sum(e["kind"] == "hero" for e in again.entries) == 1
    score = again.score()
    assert score.best == (hero.name, truth)
    assert [r.who for r in score.rows] == [
        "your sealed prediction", "pooled fit of your runs", "straight line", "nearest run",
        "fit: cheapest 3 x 3, adviser's",
    ]  # fmt: skip
    assert score.rows[0].error == pytest.approx(loss / truth - 1)
    assert score.rows[-1].score < score.rows[3].score
    assert hero.name in score.summary()


def test_what_breaks_the_rules_spends_nothing(lab, tmp_path):
    names = [i.name for i in lab.shop.items]
    hero = lab.shop.heroes[0].name
    with pytest.raises(InputError, match="nothing is bought"):
        lab.seal(hero, 2.0, 1.9, 2.1)
    lab.buy(names[0])
    before = lab.path.read_bytes()

    def refused(match: str, call: object, *args: object) -> None:
        with pytest.raises(InputError, match=match) as caught:
            call(*args)
        assert "\n" not in str(caught.value)
        assert lab.path.read_bytes() == before

    refused("are left", lab.buy, names[1:])
    refused("bought before", lab.buy, names[0])
    refused("named twice", lab.buy, [names[1], names[1]])
    refused("not for sale", lab.buy, "9x9-9M")
    refused("not for sale", lab.buy, hero)
    refused("not a target", lab.seal, names[0], 2.0, 1.9, 2.1)
    refused("no prediction is sealed", lab.hero)
    refused("no prediction is sealed", lab.score)
    for numbers in ((2, 2.1, 2.2), (2, 1, 1.5), (2, 2, 2), (2, -1, 3), (np.nan, 1, 3), (2, 1, np.inf)):
        refused("interval", lab.seal, hero, *numbers)
    refused("cannot change", open_lab, tmp_path, known_shop(), 1e30)
    other = replace(known_shop(), corpus="another text")
    refused("not the same now", open_lab, tmp_path, other)
    refused("lab of the shop known", open_lab, tmp_path, replace(known_shop(), name="other"))
    lab.seal(hero, 2.0, 1.9, 2.1)
    before = lab.path.read_bytes()
    refused("it stays", lab.seal, hero, 2.0, 1.9, 2.1)
    refused("nothing more can be bought", lab.buy, names[1])
    refused("has not run", lab.score)


@pytest.mark.parametrize("price", [-1.0, 0.0, float("nan"), float("inf")])
def test_prices_and_budgets_are_numbers_above_zero(tmp_path, price):
    shop = known_shop()
    prices = {i.name: 1.0 for i in (*shop.items, *shop.heroes)}
    with pytest.raises(InputError, match="price"):
        shop.priced({**prices, shop.items[0].name: price}, "minutes")
    with pytest.raises(InputError, match="budget"):
        open_lab(tmp_path, shop, price)
    assert not (tmp_path / "ledger.json").exists()


def test_minutes_are_for_live_shops_and_stay_as_they_were_measured(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="minutes"):
        open_lab(tmp_path, known_shop(), 5.0, unit="minutes")
    monkeypatch.setattr(
        "scaling_lib.lab.game.minutes", lambda s: {i.name: i.price / 1e15 for i in (*s.items, *s.heroes)}
    )
    lab = open_lab(tmp_path, known_shop(), 5.0, unit="minutes")
    cheapest = lab.shop.items[0]
    monkeypatch.undo()
    assert open_lab(tmp_path, known_shop()).price(cheapest.name) == cheapest.price < 1.0


def test_a_full_disk_spends_nothing(lab, monkeypatch):
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scaling_lib.files.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        lab.buy(lab.shop.items[0].name)
    monkeypatch.undo()
    assert lab.spent == 0.0
    assert lab.losses == {}
    assert os.listdir(lab.path.parent) == ["ledger.json"]


def test_what_is_paid_and_not_delivered_is_owed(lab, monkeypatch):
    def ended(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    name = lab.shop.items[0].name
    monkeypatch.setattr(Shop, "reveal", ended)
    with pytest.raises(KeyboardInterrupt):
        lab.buy(name)
    monkeypatch.undo()
    assert (lab.owed, lab.losses) == ([name], {})
    for step in (lab.fit, lambda: lab.seal(lab.shop.heroes[0].name, 2.0, 1.9, 2.1)):  # or what is paid would be lost
        with pytest.raises(InputError, match=rf"{name}: paid for and not delivered"):
            step()
    spent = lab.spent
    assert lab.buy(name) == {name: lab.shop.losses[name]}  # the same call again, as the command line advises
    assert (lab.owed, lab.spent) == ([], spent)
    assert sum(e["kind"] == "buy" for e in lab.entries) == 1


def test_a_ledger_that_vanishes_or_is_replaced_stops_the_game(lab, tmp_path):
    lab.path.unlink()
    with pytest.raises(InputError, match="open it again"):
        lab.buy(lab.shop.items[0].name)
    assert not lab.path.exists()
    open_lab(tmp_path, known_shop(), 1e15)
    with pytest.raises(InputError, match="open it again"):
        lab.buy(lab.shop.items[0].name)


def test_the_interval_score_is_gneiting_s():
    inside, below = make_row("", 2.0, 2.02, 1.9, 2.1), make_row("", 2.0, 2.2, 2.1, 2.3)
    assert inside.held
    assert inside.score == pytest.approx(0.2 / 2.0)
    assert not below.held
    assert below.score == pytest.approx((0.2 + 2 / 0.1 * 0.1) / 2.0)


# ---- processes -------------------------------------------------------------------

BUYER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from test_lab import known_shop
from scaling_lib.errors import InputError
from scaling_lib.lab import open_lab
lab = open_lab(sys.argv[2], known_shop())
names = [i.name for i in lab.shop.items]
print("ready", flush=True)
for name in names if sys.argv[3] == "up" else names[::-1]:
    try:
        lab.buy(name)
        print(name, flush=True)
    except InputError as error:
        pass
"""


def start(folder: Path, way: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUYER, str(ROOT), str(folder), way]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_on_one_lab_do_not_double_spend(lab):
    two = [start(lab.path.parent, way) for way in ("up", "down")]
    said = [name for p in two for name in p.communicate(timeout=300)[0].split()[1:]]
    bought = [name for e in lab.entries if e["kind"] == "buy" for name in e["runs"]]
    assert set(said) == set(bought)  # what one has paid and not yet received is delivered to the other for nothing
    assert len(set(bought)) == len(bought)
    assert 0.5 * lab.budget < lab.spent == pytest.approx(lab.price(bought))
    assert lab.spent <= lab.budget
    assert lab.losses == {name: lab.shop.losses[name] for name in bought}


def test_kill_9_anywhere_loses_nothing(lab):
    rng = np.random.default_rng(0)
    said: list[str] = []
    for pause in rng.uniform(0.0, 0.2, 4):
        buyer = start(lab.path.parent, "up")
        buyer.stdout.readline()
        time.sleep(pause)
        os.kill(buyer.pid, signal.SIGKILL)
        said += buyer.communicate(timeout=60)[0].split()
        bought = [name for e in lab.entries if e["kind"] == "buy" for name in e["runs"]]
        assert set(said) <= set(lab.losses)  # what was told stays told
        assert set(bought) == set(lab.losses) | set(lab.owed)
        assert lab.spent == pytest.approx(lab.price(bought))
    lab.deliver()
    assert lab.owed == []
    assert all(lab.losses[name] == lab.shop.losses[name] for name in lab.losses)


# ---- shops -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gemstones", "laptop", "laptop-learned", "entropy-hierarchy"])
def test_replay_shops_keep_their_heroes_out_of_the_shop(name):
    shop = find_shop(name)
    dearest = max(i.price for i in shop.items)
    assert shop.hero_budget >= 10.0 * dearest
    assert all(0.4 * shop.hero_budget < h.price <= shop.hero_budget for h in shop.heroes)
    assert not {i.name for i in shop.items} & {h.name for h in shop.heroes}
    assert set(shop.losses) == {i.name for i in (*shop.items, *shop.heroes)}
    assert len(cheapest_square(shop)) == 9
    assert find_shop(name).fingerprint == shop.fingerprint


def test_a_sweep_that_makes_no_game_is_refused():
    for name, words in (("nowhere", "no shop"), ("v1-to-v2", "."), ("seed-noise", "one recipe"), ("laptop-seeds", ".")):
        with pytest.raises(InputError, match=words):
            find_shop(name)


LIVE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from test_lab import tiny_live
from scaling_lib.lab import open_lab
tiny_live()
open_lab(sys.argv[2]).buy(sys.argv[3:])
"""


def tiny_live() -> None:
    """A live shop of a few steps."""
    shops.LIVE_SHAPES = ((1, 1, 16), (1, 1, 24), (1, 2, 32))
    shops.LIVE_STEPS = (1, 2, 4, 8, 100, 200)
    shops.LIVE_CORPUS, shops.LIVE_VOCAB, shops.LIVE_WINDOW, shops.LIVE_BATCH = "uniform", 300, 16, 4
    shops.LIVE_HERO_FLOPS = 1.4e9


@pytest.mark.slow
def test_a_live_game_trains_what_is_paid_though_it_is_killed(tmp_path, monkeypatch):
    for name in [name for name in vars(shops) if name.startswith("LIVE_")]:
        monkeypatch.setattr(shops, name, getattr(shops, name))  # so that they are put back
    tiny_live()
    lab = open_lab(tmp_path, "live")
    names = [i.name for i in lab.shop.items[:2]]
    buyer = subprocess.Popen([sys.executable, "-c", LIVE, str(ROOT), str(tmp_path), *names])
    while not lab.spent:
        assert buyer.poll() is None
        time.sleep(0.02)
    buyer.kill()
    buyer.wait()
    spent = lab.spent
    assert spent == lab.price(names)
    lab.deliver()
    assert (lab.spent, sorted(lab.losses)) == (spent, sorted(names))
    assert all(loss is not None and 5.0 < loss < 6.5 for loss in lab.losses.values())
    hero = lab.shop.heroes[0]
    lab.seal(hero.name, 5.7, 5.5, 5.9)
    assert lab.hero() == pytest.approx(np.log(300), abs=0.3)
    score = lab.score()
    assert score.best is None
    assert score.rows[0].loss == 5.7


# ---- the panel -------------------------------------------------------------------


def test_a_game_played_with_the_buttons_is_the_ledgers(lab):
    pytest.importorskip("ipywidgets", reason="ipywidgets are absent: the panel is not tried")
    from scaling_lib.show.sliders import BudgetLab

    panel = BudgetLab(lab)
    assert panel.buy.disabled  # nothing is chosen
    panel.shelf.value = panel.shelf.options  # everything: far too much
    assert panel.buy.disabled
    assert "too much" in panel.price.value
    grid = [i.name for i in lab.shop.items if i.n in (1e6, 2e6, 4e6) and i.d in (2e7, 4e7, 8e7)]
    panel.shelf.value = [v for v in panel.shelf.options if v.partition(":")[0] in grid]
    assert f"{lab.price(grid):.2e}".replace("e+", "e") in panel.price.value
    panel.buy.click()
    assert sorted(lab.losses) == sorted(grid)
    assert not {v.partition(":")[0] for v in panel.shelf.options} & set(grid)
    hero = lab.shop.find(panel.target.value.partition(":")[0], "heroes")
    panel.ask.click()
    assert [v.partition(":")[0] for v in panel.shelf.value] == sorted(
        lab.advise(hero.name)[0], key=[i.name for i in lab.shop.items].index
    )
    panel.buy.click()
    assert len(lab.losses) > 9
    panel.seal.click()  # no loss is given yet
    assert "interval" in panel.text.value
    assert not any(e["kind"] == "seal" for e in lab.entries)
    panel.take.click()
    fit = lab.fit()
    assert panel.loss.value == pytest.approx(fit.predict(hero.n, hero.d), abs=1e-6)
    assert panel.reveal.disabled
    panel.seal.click()
    assert panel.buy.disabled
    assert not panel.reveal.disabled
    assert [bar[0, 0] for bar in panel._bars.get_segments()] == pytest.approx([lab.price(grid), lab.spent])
    panel.reveal.click()
    assert lab.losses.keys() >= set(grid)
    assert f"{lab.hero():.3f}" in panel.text.value
    assert "your sealed prediction" in panel.text.value
    again = BudgetLab(lab)  # the ledger is all there is
    assert f"{lab.hero():.3f}" in again.text.value
    assert again.buy.disabled

"""The report of a sweep in words: every run, every law with its verdict, and why there is no prediction."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from scaling_lib.runs import Run, shipped
from scaling_lib.show.ladders import find_ladders
from scaling_lib.show.report import sweep_report
from scaling_lib.words import short

Make = Callable[..., Run]
WIDTHS = (16, 32, 48, 64, 96, 128)
STEPS = (50, 100, 200, 400, 800, 1600)


def law(x: float) -> float:
    return 2.0 + 30.0 / x**0.3


def size_of(d_model: int) -> int:
    return 24 * d_model**2 + 6 * d_model


@pytest.fixture
def runs(make_run: Make) -> list[Run]:
    noise = np.random.default_rng(0).normal(0, 0.002, (3, 6))
    made = [make_run("v1", d_model=d, loss=4.0 + 0.01 * (-1) ** i) for i, d in enumerate(WIDTHS)]  # flat
    made += [make_run("v2", d_model=d, loss=law(size_of(d)) + e) for d, e in zip(WIDTHS, noise[1], strict=True)]
    lengths = [(s, e) for s, e in zip(STEPS, noise[2], strict=True) if s != 100]
    return made + [make_run("v2", d_model=64, steps=s, loss=law(s * 1024) + e) for s, e in lengths]


def section(text: str, start: str) -> str:
    """The paragraph that begins with ``start``, in one line."""
    (found,) = [part for part in text.split("\n\n") if part.startswith(start)]
    return " ".join(found.split())


def test_the_tables_have_every_run(runs: list[Run]) -> None:
    text = sweep_report(runs)
    lines = text.split("\n\n")[0].splitlines()
    assert lines[1].split() == ["model", "parameters", "in", "all", "V1", "V2", "seconds"]
    losses = {(r.config.train.recipe, r.config.model.d_model, r.config.train.max_steps): r.val_loss for r in runs}
    for row, d in zip((line.split() for line in lines[2:8]), WIDTHS, strict=True):
        v1, v2 = (f"{losses[recipe, d, 100]:.3f}" for recipe in ("v1", "v2"))
        sizes = f"{size_of(d):,}", f"{size_of(d) + 512 * d:,}"
        assert row == [f"2x{d}", *sizes, "6.24", "->", v1, "6.24", "->", v2, "4.0"]
    assert f"ln(vocabulary) = {math.log(512):.2f}" in lines[8]
    table = next(part for part in text.split("\n\n") if part.startswith("Data scaling, V2, 2x64")).splitlines()
    assert [row.split()[0] for row in table[2:]] == [f"{s * 1024:,}" for s in STEPS]


def test_seeds_share_a_row_with_their_means_and_the_sum_of_their_seconds(make_run: Make) -> None:
    runs = [make_run("v1", d_model=d, seed=s, loss=3.0 + 0.3 * s, seconds=10) for d in WIDTHS for s in range(3)]
    runs += [make_run("v2", d_model=d, loss=2.5, seconds=1) for d in WIDTHS]
    runs += [make_run("v2", d_model=d, seed=1, loss=2.7 if d > 16 else None, seconds=1) for d in WIDTHS]
    rows = [line.split() for line in sweep_report(runs).split("\n\n")[0].splitlines()[2:8]]
    assert [row[5] for row in rows] == ["3.300"] * 6
    assert [row[8] for row in rows] == ["diverged"] + ["2.600"] * 5  # one that diverged is not averaged away
    assert [row[9] for row in rows] == ["32.0"] * 6


def test_recipes_stand_in_the_order_of_the_way(make_run: Make) -> None:
    names = ["v1", "v1-long", "v1-warmup", "v1-cosine", "v2", "wsd"]
    runs = [make_run(r, d_model=d, loss=3.0) for r in sorted(names, reverse=True) for d in WIDTHS]
    assert sweep_report(runs).splitlines()[1].split()[4:-1] == [name.upper() for name in names]


def test_a_law_is_given_with_its_errors_and_its_verdict_and_none_through_noise(runs: list[Run]) -> None:
    text = sweep_report(runs)
    said = section(text, "V2, L(N), 6 runs, 102,400 tokens each")
    fit = next(x.fit for x in find_ladders(runs) if (x.recipe, x.variable) == ("v2", "N"))
    assert fit is not None
    for name in (n for n in ("E", "A", "alpha") if n not in fit.diagnostics["at_bound"]):
        low, high = fit.parameter_interval(name)
        assert f"{name} = {fit.params[name]:.3g} [{low:.3g}, {high:.3g}]" in said
    assert f"R-squared {fit.r2:.4f}" in said
    assert f"verdict within the data: {fit.verdict().level}" in said
    flat = section(text, "V1, L(N)")
    assert "no trend" in flat
    assert "alpha" not in flat


def test_every_question_is_answered_or_refused_with_reasons(runs: list[Run], make_run: Make) -> None:
    said = section(sweep_report(runs), "Predictions for large models")
    for name in ("GPT-3, 175B parameters", "GPT-4 (rumour), 1.8T parameters", "Llama 3, 15.6T tokens"):
        assert f"{name}: no prediction; " in said
    grid = shipped("laptop")  # most of its runs stand in no ladder
    assert f"sweep of {short(sum(r.seconds for r in grid))} seconds" in sweep_report(grid)
    # 17 runs of 2 seconds: the one that stands in both ladders of V2 counts once.
    assert "34 seconds of training, up to 394k parameters" in said
    # Models of 0.1M to 43B parameters: GPT-3 lies within reach of these.
    widths = [64 * 2**k for k in range(10)] + [43_008]
    far = [make_run(d_model=d, loss=law(size_of(d)) * (1 + 0.0005 * (-1) ** i)) for i, d in enumerate(widths)]
    said = section(sweep_report(far), "Predictions for large models")
    found = re.search(r"GPT-3, 175B parameters: ([\d.]+) nats, 90% interval ([\d.]+) to ([\d.]+) \(", said)
    assert found, said
    value, low, high = map(float, found.groups())
    assert low <= value <= high
    assert value == pytest.approx(law(175e9), abs=0.03)


def test_runs_that_diverged_are_named_with_their_ladder_or_without(make_run: Make) -> None:
    runs = [make_run("v1", d_model=d, loss=law(size_of(d))) for d in WIDTHS[:5]]
    runs += [make_run("v1", d_model=128, loss=None)]
    runs += [make_run("v2", d_model=d, loss=None if d > 32 else 3.0) for d in WIDTHS]
    text = sweep_report(runs)
    assert "v1-2x128-s100-r0" in section(text, "V1, L(N), 5 runs")
    # V2 has two finished runs, too few for a ladder: its lost ones are said all the same.
    said = section(text, "Diverged, and in no fit: ")
    assert [f"v2-2x{d}-s100-r0" in said for d in WIDTHS] == [d > 32 for d in WIDTHS]
    assert "v1-2x128" not in said


def test_text_seen_twice_is_flagged(runs: list[Run], make_run: Make) -> None:
    assert "epoch" not in sweep_report(runs)
    extra = make_run("v2", d_model=64, steps=3200, loss=3.0, epochs=1.7)
    said = section(sweep_report([*runs, extra]), "More than one epoch")
    assert re.findall(r"v2-\S+", said) == [extra.run_id]


def test_runs_that_form_no_ladder_are_listed(make_run: Make) -> None:
    text = sweep_report([make_run(d_model=16, loss=3.5), make_run(d_model=32, loss=None)])
    assert re.search(r"v2-2x16-s100-r0 +6\.24 -> 3\.500 +2\.0", text)
    assert re.search(r"v2-2x32-s100-r0 +6\.24 -> diverged", text)
    assert "No law: fewer than three sizes" in text
    assert "Predictions" not in text


def test_no_line_is_wider_than_a_window(runs: list[Run], make_run: Make) -> None:
    lost = [make_run("v1-long", d_model=d, loss=None) for d in WIDTHS]
    repeated = [make_run("v1-cosine", d_model=d, epochs=2.0) for d in WIDTHS]
    assert max(map(len, sweep_report([*runs, *lost, *repeated]).splitlines())) <= 115

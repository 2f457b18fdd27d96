"""The report of a sweep in words: every run, every law with its verdict, and why there is no prediction."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from scaling_lib.runs import Run
from scaling_lib.show.ladders import find_ladders
from scaling_lib.show.report import sweep_report

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
    made += [
        make_run("v2", d_model=64, steps=s, loss=law(s * 1024) + e)
        for s, e in zip(STEPS, noise[2], strict=True)
        if s != 100
    ]
    return made


def section(text: str, start: str) -> str:
    """The paragraph that begins with ``start``, in one line."""
    (found,) = [part for part in text.split("\n\n") if part.startswith(start)]
    return " ".join(found.split())


def test_the_table_has_a_row_a_size_and_a_column_a_recipe(runs: list[Run]) -> None:
    lines = sweep_report(runs).split("\n\n")[0].splitlines()
    assert "validation loss in nats per token, first -> last" in lines[0]
    assert lines[1].split() == ["model", "parameters", "in", "all", "V1", "V2", "seconds"]
    rows = [line.split() for line in lines[2:8]]
    assert [row[0] for row in rows] == [f"2x{d}" for d in WIDTHS]
    for row, d in zip(rows, WIDTHS, strict=True):
        assert row[1] == f"{size_of(d):,}"
        assert row[2] == f"{size_of(d) + 512 * d:,}"
        first_v1, _, last_v1, first_v2, _, last_v2, seconds = row[3:]
        v1, v2 = (
            next(r for r in runs if r.config.model.d_model == d and r.config.train.recipe == name and
                 r.config.train.max_steps == 100)
            for name in ("v1", "v2")
        )  # fmt: skip
        assert first_v1 == first_v2 == "6.24"
        assert (last_v1, last_v2) == (f"{v1.val_loss:.3f}", f"{v2.val_loss:.3f}")
        assert float(seconds) == v1.seconds + v2.seconds
    assert f"ln(vocabulary) = {math.log(512):.2f}" in lines[8]


def test_seeds_share_a_row_with_their_means_and_the_sum_of_their_seconds(make_run: Make) -> None:
    runs = [make_run("v1", d_model=d, seed=s, loss=3.0 + 0.3 * s, seconds=10) for d in WIDTHS for s in range(3)]
    runs += [make_run("v2", d_model=d, loss=2.5, seconds=1) for d in WIDTHS]
    runs += [make_run("v2", d_model=d, seed=1, loss=2.7 if d > 16 else None, seconds=1) for d in WIDTHS]
    lines = sweep_report(runs).split("\n\n")[0].splitlines()
    rows = [line.split() for line in lines[2:8]]
    assert [row[0] for row in rows] == [f"2x{d}" for d in WIDTHS]
    assert [row[5] for row in rows] == ["3.300"] * 6
    assert [row[8] for row in rows] == ["diverged"] + ["2.600"] * 5  # one that diverged is not averaged away
    assert [row[9] for row in rows] == ["32.0"] * 6
    assert lines[8] == "Means over up to 3 seeds."


def test_recipes_stand_in_the_order_of_the_way(make_run: Make) -> None:
    names = ["v1", "v1-long", "v1-warmup", "v1-cosine", "v2", "wsd"]
    runs = [make_run(r, d_model=d, loss=3.0) for r in sorted(names, reverse=True) for d in WIDTHS]
    heading = sweep_report(runs).splitlines()[1].split()
    assert heading[4:-1] == [name.upper() for name in names]


def test_the_ladder_in_tokens_has_its_own_table(runs: list[Run]) -> None:
    text = sweep_report(runs)
    table = next(part for part in text.split("\n\n") if part.startswith("Data scaling, V2, 2x64")).splitlines()
    assert [row.split()[0] for row in table[2:]] == [f"{s * 1024:,}" for s in STEPS]


def test_a_law_is_given_with_its_errors_and_its_verdict(runs: list[Run]) -> None:
    said = section(sweep_report(runs), "V2, L(N), 6 runs, 102,400 tokens each")
    ladder = next(x for x in find_ladders(runs) if (x.recipe, x.variable) == ("v2", "N"))
    fit = ladder.fit
    assert fit is not None
    assert "L = E + A / N^alpha" in said
    for name in ("E", "A", "alpha"):
        if name not in fit.diagnostics["at_bound"]:
            low, high = fit.parameter_interval(name)
            assert f"{name} = {fit.params[name]:.3g} [{low:.3g}, {high:.3g}]" in said
    assert f"R-squared {fit.r2:.4f}, which any smooth fall reaches" in said
    assert f"verdict within the data: {fit.verdict().level}" in said


def test_no_law_is_given_through_noise(runs: list[Run]) -> None:
    said = section(sweep_report(runs), "V1, L(N)")
    assert "verdict: no trend: the losses do not fall" in said
    assert "alpha" not in said
    assert "R-squared" not in said


def test_every_question_is_answered_or_refused_with_reasons(runs: list[Run]) -> None:
    said = section(sweep_report(runs), "Predictions for large models")
    assert "GPT-3, 175B parameters: no prediction; the target lies" in said
    assert "GPT-4 (rumour), 1.8T parameters: no prediction; " in said
    assert "Llama 3, 15.6T tokens: no prediction; " in said
    assert said.count("decades") >= 3
    # 17 runs of 2 seconds: the one that stands in both ladders of V2 counts once.
    assert "A sweep of 34 seconds of training, up to 394k parameters, cannot predict GPT-4" in said
    assert "compare with no others" in said
    assert not re.search(r"\d nats, 90% interval", said)


def test_a_ladder_that_reaches_far_enough_predicts_with_an_interval(make_run: Make) -> None:
    # Models of 0.1M to 43B parameters: GPT-3 lies within reach of these.
    widths = [64 * 2**k for k in range(10)] + [43_008]
    runs = [make_run(d_model=d, loss=law(size_of(d)) * (1 + 0.0005 * (-1) ** i)) for i, d in enumerate(widths)]
    said = section(sweep_report(runs), "Predictions for large models")
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
    assert "left out, not finished: v1-2x128-s100-r0" in section(text, "V1, L(N), 5 runs")
    row = next(line for line in text.splitlines() if line.split()[:1] == ["2x128"])
    assert row.split()[3:6] == ["6.24", "->", "diverged"]
    # V2 has two finished runs, too few for a ladder: its lost ones are said all the same.
    said = section(text, "Diverged, and in no fit: ")
    assert [f"v2-2x{d}-s100-r0" in said for d in WIDTHS] == [d > 32 for d in WIDTHS]
    assert "v1-2x128" not in said


def test_text_seen_twice_is_flagged(runs: list[Run], make_run: Make) -> None:
    assert "epoch" not in sweep_report(runs)
    extra = make_run("v2", d_model=64, steps=3200, loss=3.0, epochs=1.7)
    said = section(sweep_report([*runs, extra]), "More than one epoch")
    assert extra.run_id in said
    assert said.count("v2-") == 1


def test_runs_that_form_no_ladder_are_listed(make_run: Make) -> None:
    runs = [make_run(d_model=16, loss=3.5), make_run(d_model=32, loss=None)]
    text = sweep_report(runs)
    assert re.search(r"v2-2x16-s100-r0 +6\.24 -> 3\.500 +2\.0", text)
    assert re.search(r"v2-2x32-s100-r0 +6\.24 -> diverged", text)
    assert "No law: fewer than three sizes" in text
    assert "Predictions" not in text
    assert "Laws" not in text


def test_no_line_is_wider_than_a_window(runs: list[Run], make_run: Make) -> None:
    lost = [make_run("v1-long", d_model=d, loss=None) for d in WIDTHS]
    repeated = [make_run("v1-cosine", d_model=d, epochs=2.0) for d in WIDTHS]
    assert max(map(len, sweep_report([*runs, *lost, *repeated]).splitlines())) <= 110

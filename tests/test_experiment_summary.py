"""The page of all sweeps: what it holds is what the digests say, and the committed page is up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling_lib.errors import InputError
from scaling_lib.runs import Run, write_run
from scaling_lib.show.studies import sweep_numbers
from scaling_lib.sweep.recipes import peak_lr
from tools.digest import digest_folder
from tools.experiment_summary import experiment_summary, read_about
from tools.experiment_summary import main as write_both

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = json.loads((ROOT / "results" / "SUMMARY.json").read_text(encoding="utf-8"))


def cells(page: str, title: str) -> dict[str, list[str]]:
    """The table below a heading: its rows by their first cell."""
    lines = page.partition(f"## {title}\n\n")[2].partition("\n\n")[0].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in rows}) == 1, "every row has as many cells as the heading"
    return {row[0]: row[1:] for row in rows[2:]}


def test_the_committed_page_is_what_the_tool_writes() -> None:
    made = experiment_summary(COMMITTED, read_about(ROOT / "results"))
    assert (ROOT / "docs" / "EXPERIMENT_SUMMARY.md").read_text(encoding="utf-8") == made, (
        "python tools/experiment_summary.py"
    )


def test_every_sweep_and_every_law_has_a_row() -> None:
    page = experiment_summary(COMMITTED)
    assert list(cells(page, "What was run")) == [f"`{name}`" for name in COMMITTED]
    laws = page.partition("## Laws in one variable")[2].partition("## ")[0]
    for name, sweep in COMMITTED.items():
        assert laws.count(f"| `{name}` |") == len(sweep.get("ladders", ()))


def test_the_numbers_are_the_digests(make_run: Callable[..., Run]) -> None:
    runs = [make_run("v2", d_model=d, loss=2 + 30 / d, seed=s) for d in (16, 32, 48, 64, 96) for s in range(3)]
    found = sweep_numbers([*runs, make_run("v2", d_model=128, loss=None)], peak_lr)
    page = experiment_summary({"made-here": found})
    assert cells(page, "What was run")["`made-here`"] == ["16, 1 diverged", "made", "512", "1 min", "6.24", "2.312"]
    recipe, law, runs_fitted, exponent, floor, *_, verdict = cells(page, "Laws in one variable")["`made-here`"]
    assert (recipe, law, runs_fitted, verdict) == ("V2", "L(N)", "15", found["ladders"][0]["verdict"])
    alpha = found["ladders"][0]["params"]["alpha"]
    low, high = found["ladders"][0]["intervals"]["alpha"]
    assert exponent == f"{alpha:.2f} [{low:.2f}, {high:.2f}]"
    assert floor.startswith(f"{found['ladders'][0]['params']['E']:.2f} [")
    assert "## Sweep by sweep" not in page, "nothing was told about it"


def test_a_law_without_a_trend_has_a_verdict_and_no_exponent() -> None:
    flat = {"recipe": "v1", "variable": "N", "runs": 5, "law": "power_n", "verdict": "no trend", "r2": -1e-9}
    unfit = {"recipe": "v2", "variable": "D", "runs": 3, "no_fit": "too few"}
    base = {"runs": 5, "diverged": 0, "corpus": "uniform:train_tokens=9", "vocab_size": 512, "training_hours": 2.0}
    page = experiment_summary({"x": {**base, "loss": {"first": 6.24, "lowest": None}, "ladders": [flat, unfit]}})
    assert "| `x` | V1 | L(N) | 5 | - | - | - | 0.000 | no trend |" in page
    assert "| `x` | V2 | L(D) | 3 | - | - | - | - | no fit: too few |" in page
    assert "| `x` | 5 | uniform | 512 | 2.0 h | 6.24 | - |" in page
    assert "Joint laws" not in page, "a table without rows is left out"


def test_studies_have_their_tables() -> None:
    base = {"runs": 5, "diverged": 0, "corpus": "made", "vocab_size": 512, "training_hours": 0.1}
    cell = {"model": "2x32", "n_tokens": 1e6, "mean": -0.5, "low": -0.6, "high": -0.4}
    cells_ = [
        {**cell, "multiple": 1.5, "multiple_low": 1.25, "multiple_high": 2.0},
        {**cell, "multiple": None, "multiple_low": None, "multiple_high": None},
    ]
    floor = {"n_tokens": None, "E": 1.706, "low": 1.68, "high": 1.72, "holds": True, "verdict": "supported"}
    study = {
        "effects": [{"reference": "v1-long", "other": "v2", "noise": 0.01, "cells": cells_, "shifts": []}],
        "true_floor": 1.7001,
        "floors": [floor, {**floor, "n_tokens": 8.192e6, "holds": False}],
        "retrained": [{"hidden": 1, "span": 1.31, "held": 39, "trials": 40, "refused": 0, "half_width": 0.0123}],
    }
    page = experiment_summary({"x": {**base, "loss": {"first": 6.24, "lowest": 3.0}, **study}})
    assert "| `x` | V1-LONG | V2 | 2x32 | 1M | -0.500 [-0.600, -0.400] | 1.50 [1.25, 2.00] |" in page
    assert "| `x` | V1-LONG | V2 | 2x32 | 1M | -0.500 [-0.600, -0.400] | - |" in page
    assert "| `x` | joint law | 1.706 [1.680, 1.720] | 1.700 | yes | supported |" in page
    assert "| `x` | L(N) at 8.19M tokens | 1.706 [1.680, 1.720] | 1.700 | no | supported |" in page
    assert "| `x` | 1 | 1.3x | 39 of 40 | 0 | 1.2% |" in page


SHOWN = {
    "runs", "diverged", "corpus", "fingerprint", "vocab_size", "training_hours", "loss", "ladders", "grids",
    "seed_noise", "wsd_less_v2", "effects", "true_floor", "floors", "retrained", "tokenizers", "rates",
}  # fmt: skip


def test_nothing_that_a_digest_holds_is_left_out() -> None:
    for name, sweep in COMMITTED.items():
        assert not sweep.keys() - SHOWN, f"{name}: give these a table in experiment_summary.py, then name them here"


def test_what_is_told_of_a_sweep_comes_from_its_readme(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "README.md").write_text("# one\n\nFirst\nparagraph.\n\nSecond.\n", encoding="utf-8")
    assert read_about(tmp_path) == {"one": "First\nparagraph."}
    (tmp_path / "one" / "README.md").write_text("no heading", encoding="utf-8")
    with pytest.raises(InputError, match=r"README\.md: no paragraph below a heading"):
        read_about(tmp_path)


def test_the_tool_writes_the_numbers_and_the_page(make_run: Callable[..., Run], tmp_path: Path) -> None:
    for run in [make_run("v2", d_model=d, loss=2 + 30 / d) for d in (16, 32, 48, 64, 96)]:
        write_run(run, tmp_path / "results" / "one")
    (tmp_path / "docs").mkdir()
    (tmp_path / "results" / "one" / "README.md").write_text("# one\n\nWhat it is.\n\nMore.\n", encoding="utf-8")
    write_both(tmp_path)
    numbers = json.loads((tmp_path / "results" / "SUMMARY.json").read_text())
    assert numbers == digest_folder(tmp_path / "results", peak_lr)
    page = (tmp_path / "docs" / "EXPERIMENT_SUMMARY.md").read_text()
    assert page == experiment_summary(numbers, {"one": "What it is."})

"""The tables of our documents: the numbers are those of the records, and every committed table is up to date."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaling_lib.cli import main as command
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, read_runs, write_run
from scaling_lib.show.studies import sweep_numbers
from scaling_lib.sweep.recipes import peak_lr
from tools import experiment_summary as tool
from tools.digest import digest_folder
from tools.facts import Estimate, facts

RESULTS = Path(__file__).parent.parent / "results"
COMMITTED = json.loads((RESULTS / "SUMMARY.json").read_text(encoding="utf-8"))
LONG = {"coverage", "paired"}  # sweeps of hundreds of runs: a minute each
SWEEPS = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in COMMITTED]


def same(found: Any, expected: Any, where: str = "") -> None:
    """Numbers to one part in a thousand, for another processor may end a fit a little elsewhere; the rest exactly."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            same(a, b, f"{where}/{i}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", SWEEPS)
def test_what_is_committed_is_what_the_records_give(name: str) -> None:
    expected = {key: value for key, value in COMMITTED[name].items() if key != "tokenizers"}
    same(sweep_numbers(read_runs(RESULTS / name), peak_lr), expected)


def test_every_committed_sweep_says_what_it_is() -> None:
    folders = [p for p in RESULTS.glob("[!.]*") if p.is_dir()]
    assert {p.name for p in folders} == set(COMMITTED), "python -m tools.experiment_summary"
    for folder in folders:
        text = (folder / "README.md").read_text(encoding="utf-8")
        for word in ("python -m scaling_lib", "training FLOPs", "fingerprint", "cores"):
            assert word in text, f"{folder.name}: {word}"
        assert text.count("\n") <= 40
    assert sum(p.stat().st_size for folder in folders for p in folder.rglob("*") if p.is_file()) < 5e6


def test_the_committed_tables_are_what_the_tool_writes() -> None:
    for path, text in tool.written().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: python -m tools.experiment_summary --tables"


def test_every_table_is_in_a_document_and_every_law_in_a_table() -> None:
    named = [m for path in tool.written() for m in tool.BLOCK.findall(path.read_text(encoding="utf-8"))]
    assert {block[1] for block in named} == set(tool.TABLES)
    laws, no_law = (list(tool.TABLES[name](COMMITTED, {})) for name in ("laws", "no-law"))
    ladders = sum(len(sweep.get("ladders", ())) for sweep in COMMITTED.values())
    assert len(laws) + sum(row[2].count(",") + 1 for row in no_law) == ladders


def test_only_rows_and_run_times_are_written_anew() -> None:
    text = "# A\n\n<!-- table: runs -->\n\n| a | b | c | d | e |\n|---|---|---|---|---|\n| old |\n\n<!-- end -->\n\nB\n"
    made = {"x": {"runs": 5, "diverged": 1, "corpus": "uniform:n=9", "vocab_size": 1024, "loss": {"lowest": None}}}
    row = "| `x` | 5, 1 diverged | uniform | 1,024 | - |\n"
    assert tool.filled(text, made, {}) == text.replace("| old |\n", row)
    assert tool.filled(text.replace("| old |\n", row), made, {}) == text.replace("| old |\n", row)
    line = "| [2](notebooks/02_parameter_scaling.ipynb) | How? | 9999 s |"
    stated = tool.run_time("02_parameter_scaling.ipynb")
    assert tool.filled(line, {}, {}) == line.replace("9999", stated)
    assert int(stated) < 100


def test_the_rows_are_the_digests_numbers(make_run: Callable[..., Run]) -> None:
    runs = [make_run("v2", d_model=d, loss=2 + 30 / d, seed=s) for d in (16, 32, 48, 64, 96) for s in range(3)]
    found = sweep_numbers([*runs, make_run("v2", d_model=128, loss=None)], peak_lr)
    assert (found["runs"], found["diverged"], found["seed_noise"]["cells"]) == (16, 1, 5)
    json.dumps(found, allow_nan=False)
    (ladder,) = found["ladders"]
    (row,) = tool.laws({"made": found}, {})
    low, high = ladder["intervals"]["alpha"]
    assert row[:4] == ("`made`", "V2, L(N)", "15", f"{ladder['params']['alpha']:.2f} [{low:.2f}, {high:.2f}]")
    assert row[-1] == ladder["verdict"]


def test_a_refused_law_shows_no_numbers() -> None:
    flat = {"recipe": "v1", "variable": "N", "runs": 5, "law": "power_n", "verdict": "no trend", "r2": 0.0}
    unfit = {"recipe": "v2", "variable": "D", "runs": 3, "no_fit": "too few"}
    made = {"x": {"ladders": [flat, {**flat, "recipe": "v2"}, unfit]}}
    assert not list(tool.laws(made, {}))
    assert list(tool.no_law(made, {})) == [
        ("`x`", "L(N)", "V1, V2", "no trend"), ("`x`", "L(D)", "V2", "no fit: too few"),
    ]  # fmt: skip


def test_studies_have_their_rows() -> None:
    cell = {"model": "2x32", "n_tokens": 1e6, "mean": -0.5, "low": -0.6, "high": -0.4}
    floor = {"n_tokens": None, "E": 1.706, "low": 1.68, "high": 1.72, "holds": True, "verdict": "weak"}
    study = {
        "effects": [{"reference": "v1-long", "other": "v2", "cells": [cell]}],
        "true_floor": 1.7001,
        "floors": [{**floor, "n_tokens": 4e6}, {**floor, "n_tokens": 8.192e6, "holds": False}, floor],
        "retrained": [{"hidden": 1, "span": 1.31, "held": 39, "trials": 40, "refused": 0, "half_width": 0.0123}],
        "rates": {"scans": 2, "interior": 2, "largest_excess_of_the_rule": 0.01, "width_power": None,
                  "width_power_stderr": None},
    }  # fmt: skip
    assert list(tool.recipes({"x": study}, {})) == [("`x`", "V1-LONG to V2", "2x32", "1M", "-0.500 [-0.600, -0.400]")]
    assert list(tool.floors({"x": study}, {})) == [
        ("`x`", "L(N) at 8.19M tokens", "1.706 [1.680, 1.720]", "1.700", "no", "weak"),
        ("`x`", "joint law", "1.706 [1.680, 1.720]", "1.700", "yes", "weak"),
    ]
    assert list(tool.retrained({"x": study}, {})) == [("`x`", "1", "1.3x", "39 of 40", "0", "1.2%")]
    assert list(tool.rates({"x": study}, {})) == [("`x`", "2", "2", "1.0%", "-", "-")]


def test_losses_are_means_over_seeds_and_changes_are_paired() -> None:
    known = {"loss": {"x": {"2x16 v1 200": 4.0, "2x16 v2 600": 3.5, "2x32 wsd 9": 1.0}}}
    assert list(tool.losses("x", "v1 200", "v2 600", "v2 9")({}, known)) == [("2x16", "4.000", "3.500", "-")]
    found, by_seed = facts(tool.ROOT), {}
    for r in read_runs(RESULTS / "v1-to-v2"):
        by_seed[r.config.model.name, r.config.train.recipe, r.config.train.seed] = r.val_loss
    largest = max((name for name, *_ in by_seed), key=lambda name: int(name.split("x")[1]))
    d = [by_seed[largest, "v2", s] - by_seed[largest, "v1", s] for s in range(3)]
    sd = math.sqrt(sum((x - sum(d) / 3) ** 2 for x in d) / 2)
    change = found["change"].large.all
    assert change.value == pytest.approx(sum(d) / 3)
    assert change.high - change.low == pytest.approx(2 * 2.919986 * sd / math.sqrt(3))  # t, 2 degrees, 95%
    assert f"{Estimate(0.5, 0.25, None):.2f}" == "0.50 [0.25, -]"
    assert found["loss"]["v1-to-v2"][f"{largest} v2 600"] == pytest.approx(
        sum(by_seed[largest, "v2", s] for s in range(3)) / 3
    )


def test_the_tool_fits_the_sweeps_that_it_is_given(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in [make_run("v2", d_model=d, loss=2 + 30 / d) for d in (16, 32, 48, 64, 96)]:
        write_run(run, tmp_path / "results" / "one")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text("# A\n\n<!-- table: runs -->\n\n| a |\n|---|\n\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    tool.main([])
    written = json.loads((tmp_path / "results" / "SUMMARY.json").read_text(encoding="utf-8"))
    assert command(["summary", str(tmp_path / "results" / "one"), "--json"]) == 0
    assert written == {"one": json.loads(capsys.readouterr().out)}, "the command prints what the digest holds"
    assert "| `one` | 5 | made | 512 |" in page.read_text(encoding="utf-8")
    (tmp_path / "results" / "SUMMARY.json").write_text(json.dumps({"two": written["one"]}), encoding="utf-8")
    tool.main(["one"])
    assert "| `two` |" in page.read_text(encoding="utf-8"), "the others stay"
    with pytest.raises(InputError, match="no folder below it holds run records"):
        digest_folder(tmp_path / "docs", peak_lr)


def test_two_vocabularies_of_one_text_are_set_side_by_side(make_run: Callable[..., Run], tmp_path: Path) -> None:
    for name, vocab, per_token in (("small", 512, 2.0), ("large", 4096, 3.5), ("other", 4096, 3.5)):
        for steps in (100, 200):
            run = make_run(
                "v1" if name == "other" else "wsd", steps=steps, loss=4.0, vocab_size=vocab,
                bits_per_byte=4.0 / math.log(2) / per_token,
            )  # fmt: skip
            write_run(run, tmp_path / name)
    found = digest_folder(tmp_path, peak_lr)
    assert [name for name in found if "tokenizers" in found[name]] == ["large"]
    (row,) = tool.tokenizers(found, {})
    assert row[:4] == ("`large`", "`small`", "2x32", f"{2.0 / 3.5 - 1:+.1%}")

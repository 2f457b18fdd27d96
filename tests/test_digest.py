"""The numbers that documents quote: refitted from the records, and equal to what is committed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaling_lib.cli import main
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, write_run
from scaling_lib.show.studies import sweep_numbers
from scaling_lib.sweep.recipes import peak_lr
from tools.digest import digest_folder
from tools.experiment_summary import experiment_summary

RESULTS = Path(__file__).parent.parent / "results"
COMMITTED = RESULTS / "SUMMARY.json"


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


def test_what_is_committed_is_what_the_records_give() -> None:
    same(digest_folder(RESULTS, peak_lr), json.loads(COMMITTED.read_text()))


def test_every_committed_sweep_says_what_it_is() -> None:
    for folder in (p for p in RESULTS.glob("[!.]*") if p.is_dir()):
        text = (folder / "README.md").read_text()
        for word in ("python -m scaling_lib", "training FLOPs", "fingerprint", "cores"):
            assert word in text, f"{folder.name}: {word}"
        assert text.count("\n") <= 40
    records = [p for p in RESULTS.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.parts[-2:])]
    assert sum(p.stat().st_size for p in records) < 5e6


def test_a_digest_is_plain_json_without_holes(make_run: Callable[..., Run], tmp_path: Path) -> None:
    runs = [make_run("v2", d_model=d, loss=2 + 30 / d, seed=s) for d in (16, 32, 48, 64, 96) for s in range(3)]
    found = sweep_numbers([*runs, make_run("v2", d_model=128, loss=None)], peak_lr)
    assert found["runs"] == 16
    assert found["diverged"] == 1
    assert found["seed_noise"]["cells"] == 5
    assert [x["variable"] for x in found["ladders"]] == ["N"]
    json.dumps(found, allow_nan=False)
    assert not any(isinstance(v, float) and math.isnan(v) for v in found["ladders"][0]["params"].values())
    for run in runs:
        write_run(run, tmp_path / "one")
    assert list(digest_folder(tmp_path, peak_lr)) == ["one"]


def test_the_command_prints_what_the_digest_holds_of_a_sweep(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in [make_run("v2", d_model=d, loss=2 + 30 / d) for d in (16, 32, 48)]:
        write_run(run, tmp_path / "one")
    assert main(["summary", str(tmp_path / "one"), "--json"]) == 0
    assert digest_folder(tmp_path, peak_lr) == {"one": json.loads(capsys.readouterr().out)}


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
    (both,) = found["large"]["tokenizers"]
    assert both["beside"] == "small"
    (tokens,) = (c for c in both["cells"] if c["equal"] == "tokens")
    assert tokens["change"] == pytest.approx(2.0 / 3.5 - 1, rel=1e-4)
    assert tokens["low"] is None, "one seed"
    assert "| `large` | `small` | 2x32 | tokens |" in experiment_summary(found)


def test_a_folder_without_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder below it holds run records"):
        digest_folder(tmp_path, peak_lr)

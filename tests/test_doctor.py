"""The doctor: what it finds is there, what is missing is a problem with its remedy, and JSON says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaling_lib import cli_doctor
from scaling_lib.cli import main
from scaling_lib.lm.speed import product_gflops


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ten seconds of measuring."""
    speed = {
        "device": "cpu",
        "device_name": "x",
        "gflops": {"float32": 100, "bfloat16": 200},
        "mode_seconds": {"demo": 60},
    }
    monkeypatch.setattr(cli_doctor, "_speed", lambda: speed)


@pytest.mark.usefixtures("quick")
def test_a_sound_machine_has_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "No problem was found." in out
    assert "200 in bfloat16" in out
    assert "--mode demo: about 60 s" in out


@pytest.mark.usefixtures("quick")
def test_json_says_the_same(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["numpy"]
    assert found["cache"]["folder"] == str(cache)
    assert found["problems"] == []


@pytest.mark.usefixtures("quick")
def test_what_is_missing_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_doctor, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr(cli_doctor, "LEAST_DISK_GB", 1e9)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM: no-such-package is not installed; run ./run_experiments.sh check" in out
    assert "GB of disk are free" in out


def test_the_rate_of_products_is_measured() -> None:
    assert 0.1 < product_gflops("cpu", "float32", 0.05) < 1e6


@pytest.mark.slow
def test_the_whole_examination_measures_every_mode() -> None:
    found = cli_doctor.examine()
    assert set(found["mode_seconds"]) == {"demo", "laptop", "quick"}
    assert 0 < found["mode_seconds"]["demo"] < found["mode_seconds"]["quick"]

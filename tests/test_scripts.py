"""The scripts that people know: the commands of the old notes, unchanged, in a cheap form."""

import os
import runpy
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from scaling_lib import cli
from scaling_lib.runs import read_runs
from scaling_lib.sweep import cost as planning
from scaling_lib.sweep.recipes import MODES

ROOT = Path(__file__).resolve().parents[1]
V2, V1 = "run_scaling_experiments_enhanced.py", "run_scaling_experiments.py"
DEMO, COMPARE = "quick_scaling_demo.py", "compare_quick_vs_real.py"
WALK = "random-walk:degree=8,train_tokens=60000,val_tokens=8192"
# One model of 0.8M parameters for a few steps, on a language that is made in a moment.
CHEAP = ["--sizes", "1", "--max-steps", "4", "--corpus", WALK, "--vocab-size", "257", "--workers", "1"]


def run(name: str, *argv: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The script itself in this process, as ``python NAME ARGV`` would run it."""
    monkeypatch.setattr(sys, "argv", [name, *argv])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    return int(end.value.code or 0)


@pytest.fixture
def asked(monkeypatch):
    """What the command line understood, in place of doing it."""
    seen: list[Namespace] = []

    def main(argv: list[str]) -> int:
        seen.append(cli._parser().parse_args(argv))
        return 0

    monkeypatch.setattr(cli, "main", main)
    return seen


@pytest.mark.parametrize(
    ("name", "argv", "meant"),
    [
        (V2, "--mode quick", ("quick", ["v2"], None)),
        (V2, "--mode standard --max-steps 5000", ("standard", ["v2"], 5000)),
        (V2, "", ("quick", ["v2"], None)),
        (V2, "--recipe wsd", ("quick", ["wsd"], None)),
        (V2, "--rec=wsd --recipe v1", ("quick", ["wsd", "v1"], None)),
        (V1, "", ("quick", ["v1"], None)),
        (V1, "--mode full", ("full", ["v1"], None)),
        (DEMO, "", ("demo", None, None)),
    ],
)
def test_the_old_commands_mean_what_they_meant(name, argv, meant, asked, monkeypatch):
    assert run(name, *argv.split(), monkeypatch=monkeypatch) == 0
    (args,) = asked
    assert (args.mode, args.recipe, args.max_steps) == meant


@pytest.mark.parametrize("name", [V2, V1, DEMO, COMPARE])
def test_help_is_quick_and_true(name, monkeypatch, capsys):
    for option in ("--help", "-h"):
        assert run(name, option, monkeypatch=monkeypatch) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert f"Usage: python {name} [" in out
        for mode in ("quick", "standard", "full"):
            for line in (x for x in out.splitlines() if f"--mode {mode}" in x):
                steps = MODES[mode].steps_v1 if name == V1 else MODES[mode].steps_v2
                assert f"{steps:,} steps" in line
    assert os.access(ROOT / name, os.X_OK)


def test_v1_and_v2_stand_side_by_side_and_compare(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "calibrate", lambda plan, budget=0.0: {c.model: 1e-5 for c in plan.cells})
    for name in (V1, V2):
        assert run(name, *CHEAP, "--out", "runs/quick", monkeypatch=monkeypatch) == 0
    assert [r.config.train.recipe for r in read_runs(Path("runs/quick"))] == ["v1", "v2"]
    said = capfd.readouterr().out
    assert "v1-4x128-s4-r0" in said
    assert run(COMPARE, "runs/quick", monkeypatch=monkeypatch) == 0
    said = capfd.readouterr().out
    (row,) = [line.split() for line in said.splitlines() if line.split()[:1] == ["4x128"]]
    v1, v2, change = map(float, row[1:4])
    assert change == pytest.approx(v2 - v1, abs=1.1e-3)
    assert (tmp_path / "figures" / "compare-runs-quick.png").exists()


# A Python that sees the repository but has none of its packages, as before the set-up.
BARE = """
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"numpy", "torch", "matplotlib", "tokenizers"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Bare())
sys.path.insert(0, sys.argv[1])
sys.argv = [sys.argv[2], "--dry-run"]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_python_without_the_packages_is_told_what_to_do():
    command = [sys.executable, "-c", BARE, str(ROOT), str(ROOT / DEMO)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("scaling_lib: ")
    assert "is not installed in" in result.stderr
    assert "./run_experiments.sh check" in result.stderr
    assert "Traceback" not in result.stderr

"""The doctor: what it finds is there, what is missing is a problem with its remedy, and JSON says the same."""

import json

from scaling_lib import cli_doctor
from scaling_lib.cli import main
from scaling_lib.sweep import plan


def test_words_and_json_say_what_was_measured_and_what_is_missing_with_its_remedy(monkeypatch, capsys, cache):
    rates = {"float32": 100, "bfloat16": 200}
    speed = {"device": "cpu", "device_name": "x", "gflops": rates, "compiles": True, "mode_seconds": {"demo": 60}}
    monkeypatch.setattr(cli_doctor, "_speed", lambda: speed)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["numpy"]
    assert (found["cache"]["folder"], found["problems"]) == (str(cache), [])
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "200 GFLOP/s in bfloat16" in out
    assert "--mode demo: about 60 s" in out
    monkeypatch.setattr(cli_doctor, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr(cli_doctor, "LEAST_DISK_GB", 1e9)
    assert main(["doctor"]) == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("PROBLEM: ")]
    assert len(problems) == 2
    assert "./run_experiments.sh check" in problems[0]


def test_the_whole_examination_measures_every_mode(monkeypatch):
    monkeypatch.setattr(plan, "cores", lambda: 1)  # in this process: no pool
    monkeypatch.setattr(cli_doctor, "SECONDS_A_MODE", 0.3)
    found = cli_doctor.examine()
    assert set(found["mode_seconds"]) == {"demo", "laptop", "quick"}
    assert 0 < found["mode_seconds"]["demo"] < found["mode_seconds"]["quick"]
    assert all(1 < rate < 1e6 for rate in found["gflops"].values())

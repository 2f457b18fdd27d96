"""The command line as a person meets it: what it prints, what it refuses in one line, and how it is interrupted."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scaling_lib import cli, cli_sweep
from scaling_lib.cli import main
from scaling_lib.lm.checkpoint import load_state, save_state
from scaling_lib.runs import read_run, read_runs, write_run
from scaling_lib.show import export
from scaling_lib.sweep import cost as planning

UNIFORM = "uniform:train_tokens=60000,val_tokens=8192"


def call(*argv: object) -> int:
    try:
        return main([str(a) for a in argv])
    except SystemExit as end:  # argparse's way
        return int(end.code or 0)


def shell(*argv: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scaling_lib", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


SIZES = [round(10 ** (4 + k / 2)) for k in range(11)]  # 1e4 to 1e9


def law(n: float) -> float:
    return 1.5 + 30 / n**0.3


def files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


# ---- bad input -------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with texts of bad kinds, a table and an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.txt").write_bytes(b"plain words, line after line\n" * 2000 + b"\xff\xfe\n")
    (tmp_path / "tiny.txt").write_text("A few words only.\n")
    (tmp_path / "short.txt").write_text("\n\n".join(f"{i} " + "few words " * 420 for i in range(3)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.csv").write_text("N,loss\n" + "".join(f"{n},{law(n)!r}\n" for n in SIZES))
    return tmp_path


BAD = [
    ("", "COMMAND"),
    ("train", "train"),
    ("run --sise 3", "--sise"),
    ("run --mode huge", "choose from demo, laptop"),
    ("plan --mode huge", "choose from"),
    ("run --recipe v3", "choose from v1"),
    ("run --corpus pile", "there are python-stdlib"),
    ("run --corpus ''", "--corpus"),
    (f"run --device tpu --corpus {UNIFORM}", "choose from auto, cpu"),
    (f"run --dtype int4 --corpus {UNIFORM}", "choose from auto, float32"),
    (f"run --engine slurm --corpus {UNIFORM}", "choose from local, dask"),
    *[(f"run --max-steps {v}", "whole number") for v in ("0", "-3", "many", "1.5", "nan")],
    *[(f"run --vocab-size {v}", says) for v, says in (("256", "257"), ("65536", "257"), ("0", "whole number"))],
    *[(f"run --lr {v}", "above 0") for v in ("0", "-1", "nan", "inf", "fast")],
    *[(f"run --{o} 0", o) for o in ("workers", "seeds", "sizes", "checkpoint-seconds")],
    ("run --sizes 6", "1 to 5"),
    ("run --corpus text:none.txt", "does not exist"),
    ("run --dry-run --corpus text:none.txt", "does not exist"),
    ("run --corpus text:late.txt", "not UTF-8"),
    ("run --corpus text:tiny.txt", "too small"),
    ("run --corpus text:short.txt", "too small for one batch of 16 x 64"),
    ("run --corpus random-walk:degree=1000", "degree"),
    (f"run --corpus text:{'x' * 5000}", "too long"),
    (f"run --corpus {UNIFORM} --out tiny.txt", "--out"),
    (f"run --corpus {UNIFORM} --out tiny.txt/runs", "--out"),
    ("summary none", "no such folder"),
    ("summary folder", "holds no run records"),
    (f"summary {'x' * 5000}", "too long"),
    ("summary 'no\nne'", "no such folder"),
    ("run '--no\nne'", "unrecognized"),
    ("figures none", "no such folder"),
    ("figures folder --format png,gif", "unknown figure format 'gif'"),
    ("fit none.csv", "cannot be read"),
    ("fit tiny.txt", "tiny.txt"),
    ("fit table.csv --law curve", "choose one of"),
    ("fit table.csv --law chinchilla", "no D column"),
    ("fit table.csv --fixed E", "a parameter and a number"),
    ("fit table.csv --fixed F=1", "no parameter 'F'"),
    ("fit table.csv --delta 0", "above 0"),
    ("fit table.csv --rows few", "choose one of"),
    ("fit table.csv --recipe v2", "--recipe"),
    ("fit table.csv --objective mse", "choose one of"),
    *[(f"fit table.csv --level {v}", "level") for v in ("0", "1", "nan", "high")],
    *[(f"fit table.csv --bootstrap {v}", "bootstrap") for v in ("-1", "1.5")],
    *[(f"fit table.csv --predict '{v}'", "target") for v in ("N", "N=-1", "N=nan")],
    ("fit table.csv --approach isoflop --fixed E=1", "--fixed"),
    *[(f"backtest table.csv --hide {v}", "hide") for v in ("0", "-1", "11")],
    ("backtest table.csv --hide few", "few"),
    ("backtest", "name what to back-test"),
    ("backtest none", "cannot be read"),
    ("backtest cerebras --columns N=x", "--columns"),
    ("backtest cerebras --hide 2", "--hide"),
    ("backtest --all --law kaplan", "--all"),
    ("compare a b c", "one folder or two"),
    ("lab status new", "lab"),
    ("lab open new", "--shop"),
    ("noise folder table.csv", "two .csv files"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=lambda text: text[:60])
def test_bad_input_is_one_line_exit_2_and_nothing_written(words, says, place, capsys):
    before = files(place)
    assert call(*shlex.split(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("scaling_lib")
    assert says in err
    assert files(place) == before


def test_folders_that_cannot_be_pooled_fitted_or_drawn_side_by_side(place, make_run, capsys):
    for d in (16, 32, 48):
        write_run(make_run(d_model=d, loss=None), place / "lost")
        write_run(make_run(d_model=d, loss=law(d)), place / "a" / "demo")
        write_run(make_run(d_model=d, loss=law(d), fingerprint=str(d // 32) * 64), place / "b" / "demo")
    assert call("summary", "lost") == 0
    assert "v2-2x32-s100-r0" in capsys.readouterr().out
    for words, says in [
        ("fit lost", "nothing to fit"),
        ("fit lost --json", "nothing to fit"),
        ("summary b/demo", "fingerprint"),
        ("figures a/demo b/demo --out o", "two folders are named demo"),
    ]:
        assert call(*shlex.split(words)) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert says in err
    assert not (place / "o").exists()


@pytest.fixture
def no_measuring(monkeypatch):
    """Spare the seconds in which a sweep measures how fast this machine is."""
    monkeypatch.setattr(planning, "calibrate", lambda plan, budget=0.0: {c.model: 1e-5 for c in plan.cells})


# ---- the main job ----------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(small_text, tmp_path_factory):
    """A real process that trains the three smallest models of the demo for a few steps."""
    out = tmp_path_factory.mktemp("demo") / "runs"
    done = shell("run", "--mode", "demo", "--sizes", 3, "--max-steps", 8, "--corpus", f"text:{small_text}",
                 "--workers", 1, "--out", out)  # fmt: skip
    return out, done


def test_run_prints_tables_laws_and_reasons_and_draws(demo):
    out, done = demo
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    said = done.stdout
    table = said.split("\n\n")[0].splitlines()
    assert table[1].split() == ["model", "parameters", "in", "all", "V1", "V2", "seconds"]
    assert [row.split()[0] for row in table[2:5]] == ["2x16", "2x24", "2x32"]
    assert [row.split()[1] for row in table[2:5]] == ["6,240", "13,968", "24,768"]
    assert all(row.count("->") == 2 for row in table[2:5])
    assert float(table[2].split()[3]) == pytest.approx(math.log(512), abs=0.02)  # a model that knows nothing
    assert "V2, L(N), 3 runs" in said
    assert "V2, L(D), 5 runs" in said
    assert said.count("no prediction; ") == 3  # GPT-3, GPT-4, Llama 3
    assert f"figure: {out / 'overview.png'}" in said
    assert (out / "overview.png").read_bytes().startswith(b"\x89PNG")
    runs = read_runs(out)
    assert len(runs) == 3 * 2 + 4
    assert all(r.finished for r in runs)
    assert not list((out / ".ckpt").glob("*"))
    assert not list((out / ".locks").glob("*"))


def test_run_again_and_summary_train_nothing_and_say_the_same(demo, small_text, capfd):
    out, done = demo
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.json")}
    again = call("run", "--mode", "demo", "--sizes", 3, "--max-steps", 8, "--corpus", f"text:{small_text}",
                 "--workers", 1, "--out", out)  # fmt: skip
    said = capfd.readouterr()
    assert again == 0
    assert said.out == done.stdout
    assert "all 10 runs were finished before" in said.err
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.json")} == before
    assert call("summary", out) == 0
    assert done.stdout.startswith(capfd.readouterr().out.rstrip("\n"))


def test_fit_gives_json_of_one_recipe(demo, capsys):
    out, _ = demo
    assert call("fit", out, "--json", "--law", "power_d") == 2  # two recipes: which?
    assert "choose one with --recipe" in capsys.readouterr().err
    assert call("fit", out, "--json", "--law", "power_d", "--recipe", "v2") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["law"] == "power_d"
    assert found["runs"] == 5  # the ladder in D alone, not the other sizes
    assert call("fit", out, "--json", "--law", "power_n", "--recipe", "v2") == 0
    assert capsys.readouterr().err.splitlines()[0].startswith("the ladder in N: 3 runs")
    assert call("fit", out, "--law", "power_d", "--recipe", "v1") == 2
    assert "needs three or more runs that differ in D alone" in capsys.readouterr().err


def test_fit_of_a_folder_knows_which_runs_share_noise_and_pools_no_two_rates(place, make_run, capsys):
    for d in (16, 32, 48, 64, 96):
        for steps in (100, 200, 400):
            loss = law(24 * d**2 + 6 * d) + 40 / steps
            write_run(make_run("wsd", d_model=d, steps=steps, loss=loss), place / "folder")
    assert call("fit", "folder", "--law", "chinchilla") == 0
    assert "5 groups" in capsys.readouterr().out
    write_run(make_run("wsd", d_model=16, steps=800, loss=3.0, lr=0.02), place / "folder")
    assert call("fit", "folder", "--law", "power_c") == 2
    assert "differ in their peak rate" in capsys.readouterr().err


def test_fit_of_a_folder_names_what_it_leaves_out_and_obeys_every_option(place, make_run, capsys):
    for recipe in ("v1", "v2"):
        for d in (16, 32, 48, 64, 96, 128):
            write_run(make_run(recipe, d_model=d, loss=law(24 * d**2 + 6 * d)), place / "folder")
        write_run(make_run(recipe, d_model=80, loss=None), place / "folder")
    assert call("fit", "folder") == 0  # without wishes: the report of the whole sweep
    said = capsys.readouterr().out
    assert call("summary", "folder") == 0
    assert capsys.readouterr().out == said
    assert said.count("left out, not finished: ") == 2
    for wish in (["--objective", "huber"], ["--law", "power_n"], ["--level", "0.5"], ["--bootstrap", "9"]):
        assert call("fit", "folder", *wish) == 2, wish
        assert "choose one with --recipe" in capsys.readouterr().err
    assert call("fit", "folder", "--recipe", "wsd") == 2
    assert "holds v1, v2" in capsys.readouterr().err
    assert call("fit", "folder", "--recipe", "v2", "--law", "power_n", "--json", "--objective", "huber") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["runs"], found["law"], found["objective"]["name"]) == (6, "power_n", "huber")
    assert found["params"]["alpha"] == pytest.approx(0.3, rel=1e-3)
    assert err.splitlines() == [
        "the ladder in N: 6 runs, 102,400 tokens each",
        "left out, not finished: v2-2x80-s100-r0",
    ]


def test_fit_of_a_table_finds_its_law_and_predicts(place, capsys):
    targets = ["--predict", "N=3e9", "--predict", "N=175e12", "--level", "0.8"]
    assert call("fit", "table.csv", "--json", *targets) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["law"] == "power_n"
    assert [found["params"][p] for p in ("E", "A", "alpha")] == pytest.approx([1.5, 30, 0.3], rel=1e-5)
    assert found["confidence"] == 0.8
    near, far = found["predictions"]
    low, high = near["new_run_interval"]
    assert low <= near["loss"] <= high
    assert near["loss"] == pytest.approx(law(3e9), abs=1e-5)
    assert far["target"] == {"N": 175e12}
    assert far["refused"]  # five decades beyond the table
    assert far["loss"] is None
    assert call("fit", "table.csv", *targets) == 0
    assert "1.5431 nats per token" in capsys.readouterr().out
    assert call("fit", "table.csv", "--json", "--fixed", "E=1.4", "--objective", "huber", "--delta", "0.01") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["params"]["E"] == pytest.approx(1.4)
    assert (found["fixed"], found["objective"]["delta"]) == ({"E": 1.4}, 0.01)


def test_fit_by_isoflop_sets_the_joint_law_beside_it(place, capsys):
    rows = [
        (n, c, 1.7 + 400 / n**0.34 + 410 / (c / 6 / n) ** 0.28)
        for c in (1e18, 1e19, 1e20)
        for n in [0.03 * (c / 6) ** 0.5 * 1.65**i for i in range(7)]
    ]
    (place / "iso.csv").write_text("N,C,loss\n" + "".join(f"{n},{c},{loss!r}\n" for n, c, loss in rows))
    assert call("fit", "iso.csv", "--approach", "isoflop", "--predict", "C=1e21", "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["a"] == pytest.approx(0.28 / 0.62, abs=0.02)
    (answer,) = found["predictions"]
    assert answer["joint_n_params"] == pytest.approx(answer["n_params"], rel=0.1)
    assert call("fit", "iso.csv", "--approach", "isoflop", "--predict", "N=1e9") == 2


def test_backtest_hides_the_largest_and_compares(place, capsys):
    assert call("backtest", "table.csv", "--hide", "2") == 0
    said = capsys.readouterr().out
    assert "fitted to 9 runs, 2 hidden" in said
    rows = [line.split() for line in said.splitlines() if line.split()[:1] == ["row"]]
    assert [row[1] for row in rows] == ["10", "11"]
    for row, n in zip(rows, SIZES[-2:], strict=True):
        assert row[3:5] == [f"{law(n):.4f}"] * 2  # measured and predicted
    assert call("backtest", "table.csv", "--hide", f"N>={SIZES[-2]}") == 0
    assert "fitted to 9 runs, 2 hidden" in capsys.readouterr().out
    assert call("backtest", "table.csv") == 0
    assert "10 runs, 1 hidden" in capsys.readouterr().out


def test_backtest_of_a_published_family(capsys):
    assert call("backtest", "cerebras") == 0
    parts = capsys.readouterr().out.strip().split("\n\n")
    # Dey et al. 2023: the largest, 13B, has a loss of 1.572 on the Pile; hidden every time.
    hidden = [[line.split() for line in part.splitlines() if line.split()[0].endswith("B")] for part in parts]
    assert [[row[0] for row in rows] for rows in hidden] == [["2.7B", "6.7B", "13B"], ["6.7B", "13B"], ["13B"]]
    assert {rows[-1][2] for rows in hidden} == {"1.5720"}


def test_records_of_each_text_have_a_folder_of_their_own_below_runs():
    for words, folder in [
        ("", "demo"),
        ("--mode quick", "quick"),
        ("--corpus 'text:/a/b/My book.txt'", "demo-my-book-txt"),
        ("--corpus random-walk:degree=16", "demo-random-walk-degree-16"),
        ("--vocab-size 1000 --corpus uniform", "demo-uniform-v1000"),
        ("--corpus text:..", "demo-text"),
    ]:
        args = cli._parser().parse_args(["run", *shlex.split(words)])
        assert cli_sweep._folder(args) == Path("runs", folder)


def test_runs_that_diverge_end_in_records_a_report_and_exit_0(place, no_measuring, capfd):
    argv = ["run", "--sizes", 2, "--max-steps", 4, "--workers", 1, "--recipe", "v2", "--corpus", UNIFORM, "--out", "o"]
    assert call(*argv, "--lr", "1e30") == 0
    said = " ".join(capfd.readouterr().out.split())
    runs = read_runs(place / "o")
    assert [r.status for r in runs] == ["diverged"] * 2
    assert all(r.val_loss is None for r in runs)
    assert "Diverged, and in no fit: " + ", ".join(r.run_id for r in runs) in said
    assert "No law: " in said
    assert "nan" not in said
    assert (place / "o" / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_tables_and_figures_need_no_torch(demo, tmp_path):
    out, _ = demo
    figures = ["figures", str(out), "--out", str(tmp_path), "--format", "svg"]
    code = f"""
import sys
from scaling_lib.cli import main
for argv in (["summary", {str(out)!r}], {figures}, ["backtest", "pythia"], ["fit", {str(out)!r}]):
    assert main(argv) == 0, argv
assert "torch" not in sys.modules
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert str(tmp_path / "overview.svg") in printed
    assert (tmp_path / "overview.svg").read_bytes().startswith(b"<?xml")


def test_help_imports_neither_torch_nor_numpy():
    code = """
import sys
from scaling_lib.cli import main
for argv in (["--help"], ["run", "--help"], ["--version"]):
    try:
        main(argv)
    except SystemExit as end:
        assert end.code == 0
found = {"torch", "numpy", "scipy", "matplotlib", "tokenizers", "joblib"} & set(sys.modules)
assert not found, found
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for command in ("plan", "run", "summary", "figures", "fit", "backtest", "doctor"):
        assert f"\n    {command} " in said


def test_a_reader_that_leaves_early_is_no_error(demo):
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-m", "scaling_lib", "summary", str(demo[0])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered,
    )  # fmt: skip
    process.stdout.close()
    assert process.communicate()[1] == b""
    assert process.returncode == 0


def test_the_plan_lists_every_run_and_writes_nothing(place, no_measuring, capsys):
    before = files(place)
    for argv in (["plan", "--mode", "demo"], ["run", "--dry-run"]):
        assert call(*argv, "--corpus", UNIFORM) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len([line for line in lines if line.split()[0] in ("v1", "v2")]) == 14
        assert lines[-1].startswith("14 runs, ")
        assert "GB of memory" in lines[-1]
    assert files(place) == before


def test_runs_that_fail_are_named_and_the_exit_is_1(place, no_measuring, monkeypatch, capfd):
    from scaling_lib.lm import train as training

    real = training.train

    def short_of_memory(config, *rest, **options):
        if config.model.d_model == 24:
            raise MemoryError
        return real(config, *rest, **options)

    monkeypatch.setattr(training, "train", short_of_memory)
    argv = ["run", "--recipe", "v2", "--sizes", 2, "--max-steps", 4, "--corpus", UNIFORM, "--workers", 1, "--out", "o"]
    assert call(*argv) == 1
    said = capfd.readouterr()
    assert "v2-2x24-s4-r0" in said.err
    assert "failed: MemoryError" in said.err
    assert "v2-2x16-s4-r0" in said.out
    assert [r.config.model.d_model for r in read_runs(place / "o")] == [16]


def test_a_damaged_record_of_the_sweep_itself_is_set_aside_and_made_anew(place, no_measuring, capfd):
    argv = ["run", "--recipe", "v2", "--sizes", 2, "--max-steps", 2, "--corpus", UNIFORM, "--workers", 1, "--out", "o"]
    assert call(*argv) == 0
    first, second = sorted((place / "o").glob("*.json"))
    losses = [r.val_loss for r in read_runs(place / "o")]
    flipped = first.read_bytes().replace(b'"schema": 1', b'"schema": 3')  # by one bit: not a newer format
    first.write_bytes(flipped)
    second.write_bytes(second.read_bytes()[:-30])
    capfd.readouterr()
    assert call(*argv) == 0
    said = capfd.readouterr().err
    assert [r.val_loss for r in read_runs(place / "o")] == losses
    for path in (first, second):
        assert f"{path.name}.damaged" in said
    assert (place / "o" / f"{first.name}.damaged").read_bytes() == flipped
    (place / "o" / "other.json").write_bytes(flipped)  # of another sweep: that is said before anything is trained
    second.unlink()
    assert call(*argv) == 2
    assert "other.json" in capfd.readouterr().err
    assert not second.exists()


def test_recipes_of_two_calls_are_shown_together_and_no_other_text(place, no_measuring, capfd, monkeypatch, make_run):
    monkeypatch.setattr(export, "save_main", lambda *_: [Path("drawn elsewhere")])
    common = ["run", "--sizes", 3, "--max-steps", 2, "--workers", 1, "--out", "o"]
    write_run(make_run("v1-long"), place / "o")  # of another text: says nothing of this one
    assert call(*common, "--recipe", "v1", "--corpus", UNIFORM) == 0
    assert call(*common, "--recipe", "v2", "--corpus", UNIFORM) == 0
    table = capfd.readouterr().out.split("Parameter scaling")[-1].splitlines()
    assert table[1].split() == ["model", "parameters", "in", "all", "V1", "V2", "seconds"]


# ---- interruption ----------------------------------------------------------------


def mark(folder: Path) -> Path:
    """Put a loss into the checkpoint that no training gives: it shows in the record of a run that went on from it."""
    path = next((folder / ".ckpt").glob("*.pt"))
    found = load_state(path)
    found[0].losses[0] = 99.0
    save_state(path, *found)
    return folder / f"{path.stem}.json"


def command_to_go_on(err: str) -> list[str]:
    """The arguments of the command that an interrupted run prints last."""
    last = err.splitlines()[-1]
    assert last.startswith("scaling_lib: interrupted")
    words = shlex.split(last.split("To go on: ")[1])
    assert Path(words[0]).absolute() == Path(sys.executable)
    assert words[1:3] == ["-m", "scaling_lib"]
    return words[3:]


def test_an_interrupted_sweep_says_how_to_go_on_and_goes_on(place, no_measuring, monkeypatch, capfd):
    from scaling_lib.lm import train as training

    real = training.batch

    def interrupted_at_30(tokens, seed, step, *shape):
        if step == 30:
            raise KeyboardInterrupt
        return real(tokens, seed, step, *shape)

    with monkeypatch.context() as patch:
        patch.setattr(training, "batch", interrupted_at_30)
        argv = ["run", "--recipe", "v2", "--sizes", 2, "--max-steps", 60, "--corpus", UNIFORM, "--workers", 1]
        assert call(*argv, "--checkpoint-seconds", 0.01, "--out", "a folder", "--force") == 130
    said = capfd.readouterr()
    assert said.out == ""
    assert not list((place / "a folder" / ".locks").glob("*"))
    again = command_to_go_on(said.err)
    assert "--force" not in again  # that would start over
    record = mark(place / "a folder")
    assert call(*again) == 0
    assert [r.status for r in read_runs(place / "a folder")] == ["finished", "finished"]
    assert read_run(record).first_loss == 99.0
    assert read_run(record).history[-1].step == 60


ENDING = """
import sys, time
from scaling_lib.interrupts import ended_like_ctrl_c
with ended_like_ctrl_c():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("first", flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them: they are not tried")
def test_any_signal_is_like_ctrl_c_a_second_ends_at_once_and_nohup_is_obeyed():
    for first in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with subprocess.Popen([sys.executable, "-c", ENDING], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(first)
            assert process.stdout.readline() == "first\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 130
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{ENDING}"
    with subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "first\n"  # by the second: the first did nothing
        process.kill()


LOADING = """
import sys, time
from scaling_lib.interrupts import ended_like_ctrl_c
with ended_like_ctrl_c():
    try:
        import slow
        print("after it", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them: they are not tried")
def test_a_signal_in_an_import_waits_for_its_end_and_then_reaches_what_blocks(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nprint('begun', flush=True)\ntime.sleep(1)\nprint('ended', flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(cli.__file__).parents[1]}{os.pathsep}{tmp_path}"}
    with subprocess.Popen(
        [sys.executable, "-c", LOADING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=30)
    lines = [line for line in said.splitlines() if line != "after it"]  # which may still be said
    assert (lines, complaints, process.returncode) == (["ended", "interrupted"], "", 0)


LEAVING = """
import atexit, runpy, sys, time
atexit.register(lambda: (print("leaving", flush=True), time.sleep(60)))
sys.argv = ["scaling_lib", "--version"]
runpy.run_module("scaling_lib", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them: they are not tried")
def test_a_signal_while_python_shuts_down_ends_it_with_the_status_it_had():
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [sys.executable, "-c", LEAVING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while process.stdout.readline() != "leaving\n":
                assert process.poll() is None
            process.send_signal(number)
            assert (process.wait(timeout=20), process.stderr.read()) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them: Ctrl-C is not tried")
def test_ctrl_c_while_workers_start_is_answered_by_their_launcher_alone(tmp_path):
    command = [sys.executable, "-m", "scaling_lib", "run", "--recipe", "v2", "--sizes", "2", "--corpus", UNIFORM]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--out", tmp_path / "out"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not any("popen_loky" in w for p in psutil.Process(process.pid).children() for w in p.cmdline()):
            assert process.poll() is None, "the sweep ended before a worker began"
            assert time.monotonic() < deadline, "no worker began"
            time.sleep(0.01)
        time.sleep(0.1)  # it is importing
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert not any(word in said for word in ("Traceback", "Warning")), said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them: Ctrl-C is not tried")
def test_signals_end_every_process_and_the_sweep_goes_on_to_the_same_losses(tmp_path, no_measuring):
    """Ctrl-C reaches the workers too, as from a terminal; a hang-up here the parent alone."""
    out, seen = tmp_path / "out", 0.0
    command = ["run", "--recipe", "v2", "--sizes", "2", "--max-steps", "120", "--corpus", UNIFORM, "--workers", "2",
               "--checkpoint-seconds", "0.05", "--out", str(out)]  # fmt: skip
    for number in (signal.SIGINT, signal.SIGHUP):
        process = subprocess.Popen(
            [sys.executable, "-m", "scaling_lib", *command, *(["--force"] if not seen else [])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while not [p for p in (out / ".ckpt").glob("*.pt") if p.stat().st_mtime > seen]:
                assert process.poll() is None, "the sweep ended before it could be interrupted"
                assert time.monotonic() < deadline, "no checkpoint was written"
                time.sleep(0.05)
            workers = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        seen = time.time()
        assert (process.returncode, stdout) == (130, "")
        assert "Traceback" not in stderr
        assert not psutil.wait_procs(workers, timeout=20)[1], "workers went on without their parent"
        again = command_to_go_on(stderr)
        assert again == command
    for folder in (out, tmp_path / "alone"):
        assert call(*again, "--workers", 1, "--out", folder) == 0  # the last of each option counts
    ends = [[(r.run_id, r.val_loss, r.history) for r in read_runs(p)] for p in (out, tmp_path / "alone")]
    assert ends[0] == ends[1]
    assert len(ends[0]) == 2

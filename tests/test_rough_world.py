"""The command line in environments that nobody chose: one row a situation, each a real process.

Every row ends with its exit status and without a traceback, and what is refused is refused in one line. What else must
be right is a number or a file, not the wording.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from scaling_lib import cli, files
from scaling_lib.runs import Run, read_runs, write_run

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell: rough surroundings are not tried")


class Ended(NamedTuple):
    """What a process left: its output, and the folder it ran in."""

    out: str
    err: str
    place: Path


class Row(NamedTuple):
    """A situation: the words after ``python -m scaling_lib``, redirections too, and what was wrong around them."""

    words: str
    code: int = 0
    env: dict[str, str] = {}  # noqa: RUF012 (a tuple's default is not shared by mistake: nothing writes it)
    before: str = ""  # shell commands before it
    right: Callable[[Ended], object] = lambda ended: True
    program: str = "-m scaling_lib"


def law_found(ended: Ended) -> bool:
    return math.isclose(json.loads(ended.out)["params"]["alpha"], 0.3, rel_tol=1e-3)


def drawn(ended: Ended) -> bool:
    """A figure, and at most one line about what could not be drawn."""
    (path,) = (ended.place / "drawn").glob("*.png")
    return path.read_bytes().endswith(b"IEND\xaeB`\x82") and ended.err.count("\n") <= 1


def packed(ended: Ended) -> bool:
    """Nothing but the records in the file: no message got into it."""
    return len(read_runs(ended.place / "copy")) == 10 and not list((ended.place / "copy").glob("*.json"))


FIT = "fit table.csv --json"
ASCII = {"PYTHONIOENCODING": "ascii"}
POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SMALL = "--sizes 1 --recipe v2 --max-steps 2 --workers 1"
CACHE = "SCALING_LIB_CACHE"

ROWS = {
    "stdout closed": Row(f"{FIT} >&-"),
    "stderr closed": Row(f"{FIT} 2>&-", right=law_found),
    "stdin closed": Row(f"{FIT} <&-", right=law_found),
    "all closed, and a file written": Row("pack copy <&- >&- 2>&-", before="cp -r records copy", right=packed),
    "stdout full": Row(f"{FIT} >/dev/full", 2),
    "stderr full": Row("fit none.csv 2>/dev/full", 2),
    "help, stdout closed": Row("fit --help >&-"),
    "ascii": Row("fit größe.csv", env=ASCII, right=lambda e: "0.3" in e.out and e.out.isascii()),
    "posix": Row("fit größe.csv", env=POSIX, right=lambda e: "0.3" in e.out and e.out.isascii()),
    "posix, no such file": Row("fit größer.csv", 2, env=POSIX),
    "a name that is not utf-8": Row("fit \"$(printf 'a\\377.csv')\"", right=lambda e: "0.3" in e.out),
    "names with marks, TeX wanted, no such backend": Row(
        "compare 'a$_$<b>' '$x' --out drawn", env={"MATPLOTLIBRC": "usetex", "MPLBACKEND": "nonsense"}, right=drawn
    ),
    "Chinese names": Row("compare 小说 '$x' --out drawn", right=drawn),
    "no date": Row("figures records --format pdf --out o", env={"SOURCE_DATE_EPOCH": "never"}),
    "without assertions and docstrings": Row(FIT, env={"PYTHONOPTIMIZE": "2"}, right=law_found),
    "a script without docstrings": Row("--help", program=f"-OO {shlex.quote(str(ROOT / 'quick_scaling_demo.py'))}"),
    "little memory": Row(FIT, 2, before="ulimit -v 250000"),  # with which SciPy's import never ends
    "a text larger than the memory": Row("plan --corpus text:large", 2, before="truncate -s 4T large"),
    "no such user": Row("plan --corpus text:small.txt", 2, env={CACHE: "~nobody-of-this-name/x"}),
    "a text of no such user": Row("plan --corpus text:~nobody-of-this-name/x", 2),
    "no number of cores": Row(f"plan --corpus text:small.txt {SMALL}", 2, env={"LOKY_MAX_CPU_COUNT": "x"}),
    "a million seeds": Row("plan --seeds 1000000", 2),
    "a tower of rules": Row("plan --corpus hierarchy:depth=1000000000000", 2),
    "a device for a folder": Row("summary /dev/zero", 2),
    "a device for a record": Row("summary zero", 2, before="mkdir zero; ln -s /dev/zero zero/runs.jsonl"),
    "a pipe for a record": Row("summary pipe", 2, before="mkdir pipe; mkfifo pipe/x.json"),
    "a device for a text": Row("plan --corpus text:/dev/zero", 2),
    "a signal while all is being loaded": Row(
        "", 130, program="-c 'import runpy, sys; sys.meta_path.insert(0, __import__(\"signalling\").Finder); "
        "sys.argv[1:] = [\"fit\", \"table.csv\"]; runpy.run_module(\"scaling_lib\", run_name=\"__main__\")'",
    ),
}  # fmt: skip

# Asks for the end when the first module of the command line is looked for: before any command could see to it.
SIGNALLING = """
import os, signal
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "scaling_lib.cli_shared":
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Run], small_text: Path) -> Path:
    """A folder with a table, texts and records; each row works in a copy."""
    place = tmp_path_factory.mktemp("world") / "a place"
    sizes = [round(10 ** (4 + k / 2)) for k in range(11)]
    place.mkdir()
    for name in (b"table.csv", "größe.csv".encode(), b"a\xff.csv"):
        Path(os.fsdecode(os.fsencode(place) + b"/" + name)).write_text(
            "N,loss\n" + "".join(f"{n},{1.5 + 30 / n**0.3!r}\n" for n in sizes)
        )
    for folder in ("records", "a$_$<b>", "$x", "小说"):
        for d in (16, 32, 48, 64, 96):
            for recipe in ("v1", "v2"):
                write_run(make_run(recipe, d_model=d, loss=2 + 30 / (24 * d**2) ** 0.3), place / folder)
    shutil.copy(small_text, place / "small.txt")
    (place / "usetex").write_text("text.usetex: True\nbackend: nonsense\n")
    (place / "signalling.py").write_text(SIGNALLING)
    return place


def started(row: Row, place: Path) -> Ended:
    """The row's process, ended as it should; at most one line where it refuses."""
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    command = f"{row.before}\nexec {shlex.quote(sys.executable)} {row.program} {row.words}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=place, capture_output=True, text=True, errors="surrogateescape", timeout=300,
        env={**environment, "PYTHONPATH": f"{ROOT}{os.pathsep}{place}", **row.env},
    )  # fmt: skip
    assert done.returncode == row.code, done.stderr
    assert "Traceback" not in done.stderr
    if row.code == 2:
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) <= 1, done.stderr
    return Ended(done.stdout, done.stderr, place)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_rough_surrounding_ends_as_it_should(row: Row, world: Path, tmp_path: Path) -> None:
    place = tmp_path / "a place"
    shutil.copytree(world, place)
    before = set(os.listdir(place))
    assert row.right(started(row, place))
    left = set(os.listdir(place)) - before
    assert row.code != 2 or left <= {"zero", "pipe", "large"}, "what is refused writes nothing"


NOTHING = ["fit ''", "summary ''", "predict '' --target N=1e9", "figures records --out ''", "plan --out ''"]


@pytest.mark.parametrize("words", NOTHING)
def test_what_a_variable_that_is_not_set_leaves_of_a_command_is_refused_in_one_line(
    words: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    before = set(os.listdir(world))
    with pytest.raises(SystemExit, match="2"):
        cli.main(shlex.split(words))
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert set(os.listdir(world)) == before


@pytest.mark.parametrize("size", ["x", "0", "2"])
def test_processes_that_cannot_be_a_group_are_refused_in_one_line(
    size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", size)  # no number, none, and two of which this one is not told where the other is
    assert cli.main(["run"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err


# Variables that are set and say nothing, or nonsense: each is as if it were not set.
NOT_SET = {CACHE: "", "LOCAL_RANK": "", "WORLD_SIZE": "", "CXX": "", "OMP_NUM_THREADS": "many"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.slow
def test_what_rots_or_was_left_by_the_dead_is_noticed_and_made_anew(world: Path, tmp_path: Path) -> None:
    """One bit in a record and in the cache except its checksums; half a file of a writer who was killed."""
    place, dead = tmp_path / "a place", subprocess.Popen(["true"])
    shutil.copytree(world, place)
    run = Row(
        f"run {SMALL} --seeds 2 --corpus text:small.txt --out o", env=NOT_SET, before="export XDG_CACHE_HOME=$PWD/xdg"
    )
    cache = place / "xdg" / "scaling_lib"
    started(run, place)
    assert cache.is_dir()
    losses = [r.val_loss for r in read_runs(place / "o")]
    dead.wait()
    rotten, gone = sorted((place / "o").glob("v2-*.json"))
    gone.unlink()
    for path in (rotten, *(p for p in cache.rglob("*") if p.is_file() and p.name != "meta.json")):
        flip(path)
    for folder in (place / "o", place / "o" / ".ckpt", cache):
        folder.mkdir(exist_ok=True)
        left = files.temporary_beside(folder / "x")
        left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")).write_bytes(b"half")
    said = started(run, place).err
    assert rotten.name in said
    assert [r.val_loss for r in read_runs(place / "o")] == losses
    counted = [line.split(",")[1] for line in (place / "o" / "timings.csv").read_text().splitlines()]
    assert counted == ["runs", "2", "2"]
    assert not list(place.rglob(".*.tmp"))

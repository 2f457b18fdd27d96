"""The launcher, as real processes: each test copies it into a folder of its own, whose name has a space.

No test installs anything: a stand-in interpreter logs what it is asked for and answers the launcher's probes.
The terminal is a real pseudo-terminal.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scaling_lib.cli import main
from scaling_lib.sweep import cost
from scaling_lib.words import duration

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ("demo", "quick", "standard", "full", "v1", "compare", "notebooks", "check")
TOOLS = "cat cp cut dirname env mkdir rm sh sleep tail timeout uname"  # all that the launcher itself may need

# A stand-in for Python. `-m venv` makes an environment around a copy of it; STAND_IN_* steer what it does.
STAND_IN = """#!/bin/sh
log() {{ printf '%s\\n' "$*" >>"$STAND_IN_LOG"; }}
case "$*" in
    *_base_executable*)
        exec {python} -c "{disguise}$2" ;;
    *hashlib*)
        exec {python} "$@" ;;
    *SC_PAGE_SIZE*)
        log machine
        exec {python} -c "{disk}$2" "$3" "$4" ;;
    *', torch'*)
        log check
        {python} -c 'import sys; compile(sys.argv[1], "check", "exec")' "$3" || exit 1
        echo 'environment: a stand-in' >&2 ;;
    *json.load*)
        exec {python} "$@" ;;
    '-m scaling_lib run '*'--dry-run --json')
        log "plan $*"
        if [ -n "${{STAND_IN_HANGS_PLAN:-}}" ]; then exec {python} -c "{hang_plan}"; fi
        if [ -n "${{STAND_IN_PLAN_FAILS:-}}" ]; then echo 'scaling_lib: no such corpus' >&2; exit 2; fi
        echo '6 runs, 1.2e+15 FLOPs, up to 1.5 GB of memory, about 9.5 h on this machine' >&2
        echo '{{"expected_seconds":' "${{STAND_IN_TIME:-34200.0}}" '}}' ;;
    '-m venv '*)
        log "$*"
        mkdir -p "$3/bin"
        cp "$0" "$3/bin/python" ;;
    '-m pip '*)
        log "$*"
        if [ "${{PIP_USER:-0}}" != 0 ]; then exit 1; fi # as pip ends in a virtual environment
        case "$*" in
            *notebooks*)
                if [ -n "${{STAND_IN_HANGS:-}}" ]; then : >"$STAND_IN_HANGS"; sleep 60; fi
                if [ -n "${{STAND_IN_FAILS:-}}" ]; then echo 'no matching distribution'; exit 1; fi ;;
        esac ;;
    *)
        log "job $*"
        if [ -n "${{STAND_IN_HANGS_JOB:-}}" ]; then exec {python} -c "{hang}"; fi
        exit "${{STAND_IN_EXIT:-0}}" ;;
esac
"""
# Before the launcher's probe: the real interpreter takes the stand-in's place and version.
DISGUISE = (
    "import os, sys; sys._base_executable = os.environ['STAND_IN']\n"
    "version = os.environ.get('STAND_IN_VERSION')\n"
    "if version: sys.version_info = tuple(map(int, version.split('.')))\n"
)
# Before the launcher's look at the machine: a disk of another size.
DISK = (
    "import collections, os, shutil\n"
    "size = os.environ.get('STAND_IN_DISK')\n"
    "if size: shutil.disk_usage = lambda path: collections.namedtuple('Usage', 'free')(float(size) * 1e9)\n"
)
# A job that says that it is running and takes Ctrl-C as a command line does: exit 130.
HANG = (
    "import os, sys, time; open(os.environ['STAND_IN_HANGS_JOB'], 'w').close()\n"
    "try: time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(130)"
)
STAND_IN = STAND_IN.format(
    python=shlex.quote(sys.executable), disguise=DISGUISE, disk=DISK, hang=HANG,
    hang_plan=HANG.replace("STAND_IN_HANGS_JOB", "STAND_IN_HANGS_PLAN"),
)  # fmt: skip


@dataclass(frozen=True)
class Copy:
    """A copy of the launcher with a stand-in interpreter."""

    folder: Path
    env: dict[str, str]

    @property
    def script(self) -> str:
        return str(self.folder / "run_experiments.sh")

    def run(self, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.script, *arguments], cwd=cwd or self.folder.parent, env={**self.env, **env},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def log(self) -> list[str]:
        """What the interpreter was asked for, in order."""
        path = Path(self.env["STAND_IN_LOG"])
        return path.read_text().splitlines() if path.exists() else []

    def installs(self) -> int:
        return sum("-m pip install" in line and "[notebooks,test]" in line for line in self.log())

    def jobs(self) -> list[str]:
        return [line.removeprefix("job ") for line in self.log() if line.startswith("job ")]


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def bare(place: Path) -> Copy:
    """A copy that has never been called, in a folder with spaces in `place`."""
    folder = place / "a folder with spaces"
    folder.mkdir()
    for name in ("run_experiments.sh", "constraints.txt", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    stand_in = place / "bin" / "python3"
    write_program(stand_in, STAND_IN)
    # Only system tools beside the stand-in: no other Python and no uv of the machine's owner is found first.
    for tool in TOOLS.split():
        if found := shutil.which(tool):
            (stand_in.parent / tool).symlink_to(found)
    log = str(place / "log")
    env = {"PATH": str(stand_in.parent), "HOME": str(place), "PIP_USER": "1", "STAND_IN": str(stand_in)}
    return Copy(folder, {**env, "STAND_IN_LOG": log})


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return bare(tmp_path)


@pytest.fixture(scope="module")
def set_up_once(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = bare(tmp_path_factory.mktemp("made"))
    assert made.run("demo").returncode == 0
    return made


@pytest.fixture
def ready(copy: Copy, set_up_once: Copy) -> Copy:
    """A copy that has been set up: its calls go straight to the job."""
    shutil.copytree(set_up_once.folder / ".venv", copy.folder / ".venv")
    stamp = copy.folder / ".venv" / "scaling-lib.stamp"
    stamp.write_text(stamp.read_text().replace(str(set_up_once.folder), str(copy.folder)))
    return copy


def in_terminal(
    copy: Copy, arguments: Sequence[str], *answers: Callable[[str], bytes | None], **env: str
) -> tuple[str, int]:
    """Run the launcher in a pseudo-terminal; each of `answers` in turn sees the screen and returns keys, once."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(copy.script, [copy.script, *arguments], {**copy.env, **env})
    screen, waiting, deadline = "", list(answers), time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    chunk = os.read(terminal, 4096)
                except OSError:  # Linux reports the other side's end as an error
                    break
                if not chunk:
                    break
                screen += chunk.decode(errors="replace")
            if waiting and (keys := waiting[0](screen)) is not None:
                os.write(terminal, keys)
                del waiting[0]
        else:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(terminal)
    return screen, status


def at_prompt(keys: bytes | None, prompt: str = "Your choice") -> Callable[[str], bytes | None]:
    """No keys: a question would hold the launcher up until it is killed."""
    return lambda screen: keys if prompt in screen else None


# ---- usage, menu, wrong options ------------------------------------------------


def test_help_names_the_eight_options_on_stdout_and_without_a_terminal_is_what_is_said(copy: Copy) -> None:
    result = copy.run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for number, word in enumerate(OPTIONS, 1):
        assert f"  {number} {word} " in result.stdout
    without = copy.run()
    assert (without.returncode, without.stdout, without.stderr) == (2, "", result.stdout)
    for option in ("nonsense", "9", "", "demo quick"):
        wrong = copy.run(option)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
        assert f"'{option}'" in wrong.stderr
    assert not copy.log()


def test_the_menu_takes_numbers_and_words_can_be_left_and_refuses_the_rest(ready: Copy) -> None:
    for keys, expected in ((b"\n", 0), (b"\x04", 0), (b"42\n", 2)):  # enter, end of input
        assert in_terminal(ready, [], at_prompt(keys))[1] == expected
    assert not ready.log()
    screen, status = in_terminal(ready, [], at_prompt(b"1\n"))
    assert status == 0
    assert "8 check" in screen
    assert in_terminal(ready, [], at_prompt(b"standard\n"), at_prompt(b"y\n", "Start?"))[1] == 0
    assert ready.jobs() == ["-m scaling_lib run --mode demo", "-m scaling_lib run --mode standard --recipe v2"]


# ---- the jobs ------------------------------------------------------------------

PAGE = "notebooks/06_extrapolation_sliders.ipynb"
TEST = "-m pytest --nbval -n logical --maxprocesses 4 -m not slow and not browser"
JOBS = {
    "demo": "-m scaling_lib run --mode demo",
    "quick": "-m scaling_lib run --mode quick --recipe v2",
    "standard": "-m scaling_lib run --mode standard --recipe v2",
    "full": "-m scaling_lib run --mode full --recipe v2",
    "v1": "-m scaling_lib run --mode quick --recipe v1",
    "compare": "-m scaling_lib compare",
    "doctor": "-m scaling_lib doctor",
    "notebooks": "-m jupyterlab --ip=127.0.0.1 notebooks",  # served to this machine only; Lab keeps its own token
    "check": TEST,
    "test": TEST,
}


def test_each_word_and_number_runs_its_job_with_the_further_options(ready: Copy) -> None:
    numbers = {str(i): JOBS[word] for i, word in enumerate(OPTIONS, 1) if i in (1, 5, 7, 8)}
    for name, job in {**JOBS, **numbers}.items():
        result = ready.run(name, "--max-steps", "7", "a b")
        assert result.returncode == 0, result.stderr
        assert result.stdout == "", "stdout belongs to the job"
        assert ready.jobs()[-1] == f"{job} --max-steps 7 a b"
    assert (ROOT / PAGE).is_file()
    assert ready.run("7", "sliders", "--port=9000", "a b").returncode == 0
    assert ready.jobs()[-1] == f"-m voila --Voila.ip=127.0.0.1 --port=9000 a b {PAGE}"
    assert ready.installs() == 0, "one set of packages serves every option"


def test_the_exit_status_is_the_jobs_and_a_relative_path_from_elsewhere_does(copy: Copy, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for status in (0, 1, 130):
        done = subprocess.run(
            ["../a folder with spaces/run_experiments.sh", "demo"],
            cwd=elsewhere, env={**copy.env, "STAND_IN_EXIT": str(status)}, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == status
    assert (copy.folder / ".venv").is_dir()
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("where", ["STAND_IN_HANGS_JOB", "STAND_IN_HANGS_PLAN", "STAND_IN_HANGS"])
def test_control_c_ends_with_130_and_an_install_is_mended_by_the_next_call(
    copy: Copy, tmp_path: Path, where: str
) -> None:
    running = tmp_path / "running"
    hangs, option = {where: str(running)}, "quick" if where.endswith("PLAN") else "demo"
    assert in_terminal(copy, [option], lambda _: b"\x03" if running.exists() else None, **hangs)[1] == 130
    assert len(copy.jobs()) == (where == "STAND_IN_HANGS_JOB")
    assert copy.run("demo").returncode == 0
    assert copy.installs() == (2 if where == "STAND_IN_HANGS" else 1)


# ---- what takes long -----------------------------------------------------------

QUICK, V1, FULL = JOBS["quick"], JOBS["v1"], JOBS["full"]
IN_A_TERMINAL = [  # the words, the seconds that are expected, the answer (None: no question may be asked), the job
    ("quick --max-steps 4000", "34200.0", b"y\n", f"{QUICK} --max-steps 4000"),
    ("5", "600", b"yes\n", V1),
    ("quick", "3e5", b"\n", None),
    ("quick", "600", b"\x04", None),  # the end of input
    ("2", "601", b"yesterday\n", None),
    ("v1", "599.9", None, V1),
    ("quick --yes", "34200.0", None, QUICK),
    ("--yes 2", "34200.0", None, QUICK),
    ("full --dry-run", "34200.0", None, f"{FULL} --dry-run"),
    ("full --help", "34200.0", None, f"{FULL} --help"),
]


@pytest.mark.parametrize(("words", "seconds", "answer", "job"), IN_A_TERMINAL)
def test_what_takes_long_shows_its_cost_and_asks_a_person(
    ready: Copy, words: str, seconds: str, answer: bytes | None, job: str | None
) -> None:
    screen, status = in_terminal(ready, words.split(), at_prompt(answer, "Start? [y/N]"), STAND_IN_TIME=seconds)
    assert status == 0
    assert ("Start?" in screen) == (answer is not None)
    assert ready.jobs() == ([job] if job else [])
    assert "environment: a stand-in" in screen
    plans = [line.removeprefix("plan ") for line in ready.log() if line.startswith("plan ")]
    if "full" in words:
        assert not plans
    else:
        assert "1.2e+15 FLOPs" in screen.partition("Start?")[0]
        assert plans[0].endswith(" --dry-run --json")
        assert job is None or plans == [f"{job} --dry-run --json"]


def test_a_pipe_is_never_asked_and_a_plan_that_is_refused_is_the_end(ready: Copy) -> None:
    result = ready.run("quick")
    assert (result.returncode, result.stdout) == (0, "")  # the plan is for the person
    assert "about 9.5 h" in result.stderr
    assert "Start?" not in result.stderr
    assert len(ready.jobs()) == 1
    result = ready.run("quick", "--corpus", "none", STAND_IN_PLAN_FAILS="1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "scaling_lib: no such corpus"
    assert len(ready.jobs()) == 1


def test_the_seconds_that_are_read_are_those_of_the_plan_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "calibrate", lambda plan, budget=0.0: {c.model: 1e-6 for c in plan.cells})
    assert main(["run", "--mode", "quick", "--sizes", "1", "--max-steps", "5", "--dry-run", "--json"]) == 0
    out, shown = capsys.readouterr()
    found = json.loads(out)
    assert len(found["runs"]) == len(re.findall("^ *v[12] ", shown, re.MULTILINE)) == 2
    assert found["flops"] == sum(run["flops"] for run in found["runs"])
    assert shown.endswith(f"about {duration(found['expected_seconds'])} on this machine\n")


# ---- the environment -----------------------------------------------------------


def test_the_machine_is_described_before_anything_is_installed_and_a_small_disk_stops_it(copy: Copy) -> None:
    small = copy.run("demo", STAND_IN_DISK="1.2")
    assert small.returncode == 1
    assert "1 GB of disk free" in small.stderr
    assert not (copy.folder / ".venv").exists()
    result = copy.run("demo", STAND_IN_DISK="20")
    assert result.returncode == 0
    assert "\nthis machine: " in f"\n{result.stderr}"
    assert copy.log().index("machine") < next(i for i, x in enumerate(copy.log()) if x.startswith("-m venv"))


def test_an_environment_is_made_once_brought_into_line_and_made_anew_where_it_cannot_serve(
    copy: Copy, tmp_path: Path
) -> None:
    first = copy.run("demo")
    assert first.returncode == 0, first.stderr
    install = next(line for line in copy.log() if "[notebooks,test]" in line)
    assert "-c constraints.txt -e .[notebooks,test]" in install
    assert "environment: a stand-in" in first.stderr
    before = copy.log()
    second = copy.run("demo")
    assert second.stderr == "running: python -m scaling_lib run --mode demo\n"
    assert copy.log() == [*before, "job -m scaling_lib run --mode demo"]
    kept = Path(".venv/kept")
    (copy.folder / kept).touch()
    for name in ("constraints.txt", "pyproject.toml"):
        with (copy.folder / name).open("a") as file:
            file.write("# changed\n")
        done = copy.installs()
        for _ in range(2):
            assert copy.run("demo").returncode == 0
            assert copy.installs() == done + 1
    assert (copy.folder / kept).exists()
    moved = Copy(tmp_path / "moved", copy.env)
    copy.folder.rename(moved.folder)
    assert moved.run("demo").returncode == 0
    assert moved.installs() == 4
    assert not (moved.folder / kept).exists()
    (moved.folder / ".venv" / "bin" / "python").unlink()  # an interpreter that has gone
    assert moved.run("demo").returncode == 0
    assert moved.installs() == 5


def test_a_failed_install_shows_the_log_runs_nothing_and_is_mended_by_the_next_call(copy: Copy) -> None:
    failed = copy.run("demo", STAND_IN_FAILS="1")
    assert failed.returncode == 1
    assert "no matching distribution" in failed.stderr
    assert "installing the packages failed" in failed.stderr.splitlines()[-1]
    assert not copy.jobs()
    (copy.folder / ".venv" / "half an install").touch()
    assert copy.run("demo").returncode == 0
    assert not (copy.folder / ".venv" / "half an install").exists(), "an unfinished environment is made anew"
    assert len(copy.jobs()) == 1


def test_two_calls_do_not_set_up_at_once(copy: Copy, tmp_path: Path) -> None:
    running = tmp_path / "running"
    first = subprocess.Popen(
        [copy.script, "demo"], env={**copy.env, "STAND_IN_HANGS": str(running)},
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        while not running.exists():
            assert first.poll() is None
            time.sleep(0.02)
        second = copy.run("demo")
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert second.returncode == 1
    assert f"process {first.pid}" in second.stderr
    assert copy.run("demo").returncode == 0, "the killed call's mark does not hold up the next one"


@pytest.mark.parametrize("serves", [True, False])
def test_an_environment_of_the_users_own_is_kept_or_left_alone(copy: Copy, serves: bool) -> None:
    mine = copy.folder / ".venv" / "mine"
    mine.parent.mkdir()
    mine.touch()
    if serves:
        write_program(copy.folder / ".venv" / "bin" / "python", STAND_IN)
    result = copy.run("demo")
    assert (result.returncode, len(copy.jobs())) == ((0, 1) if serves else (1, 0))
    assert ("it is kept" if serves else "move it away") in result.stderr
    assert mine.exists()


# ---- which Python, which torch -------------------------------------------------


def test_a_python_that_is_too_old_is_named_and_PYTHON_chooses_another(copy: Copy, tmp_path: Path) -> None:
    for env, said in (
        ({"STAND_IN_VERSION": "3.9.18"}, "python3 is 3.9.18"),
        ({"PYTHON": "/nowhere/python"}, "PYTHON=/nowhere/python"),  # and it is not replaced
    ):
        result = copy.run("demo", **env)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert said in result.stderr
        assert not (copy.folder / ".venv").exists()
    other = tmp_path / "other" / "python"
    write_program(other, STAND_IN)
    result = copy.run("demo", cwd=tmp_path, PYTHON="other/python", STAND_IN=str(other))
    assert result.returncode == 0, result.stderr
    assert str(other) in result.stderr


def test_the_version_of_the_records_comes_first_and_a_placeholder_is_passed_over(copy: Copy, tmp_path: Path) -> None:
    newer, own = (tmp_path / "bin" / f"python3.{minor}" for minor in (13, 11))
    newer.symlink_to(copy.env["STAND_IN"])
    write_program(own, "#!/bin/sh\nexit 127\n")  # as version managers leave behind
    assert f"({newer})" in copy.run("demo", STAND_IN=str(newer)).stderr
    shutil.rmtree(copy.folder / ".venv")
    own.unlink()
    own.symlink_to(copy.env["STAND_IN"])
    assert f"({own})" in copy.run("demo", STAND_IN=str(own)).stderr
    assert len(copy.jobs()) == 2


UV = """#!/bin/sh
printf 'uv %s\\n' "$*" >>"$STAND_IN_LOG"
exit {status}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does the index serve CUDA to everyone")
@pytest.mark.parametrize("uv", ["reachable", "unreachable", "hangs"])
def test_on_linux_uv_is_asked_for_the_fitting_torch_and_pip_steps_in(copy: Copy, tmp_path: Path, uv: str) -> None:
    write_program(tmp_path / "bin" / "uv", UV.format(status=2 if uv == "unreachable" else 0))
    if uv == "hangs":  # and is given up within seconds
        (tmp_path / "bin" / "timeout").unlink()
        write_program(tmp_path / "bin" / "timeout", '#!/bin/sh\necho "uv $*" >>"$STAND_IN_LOG"; exit 124\n')
    result = copy.run("demo")
    assert result.returncode == 0, result.stderr
    asked = [line for line in copy.log() if line.startswith("uv ")]
    assert "--dry-run" in asked[0]
    assert uv != "hangs" or asked[0].startswith("uv 20 ")
    assert all("--torch-backend=auto -c constraints.txt torch" in line for line in asked)
    assert len(asked) == (2 if uv == "reachable" else 1)
    assert ("uv brings the build that fits" if uv == "reachable" else "pip takes the index's") in result.stderr
    assert copy.installs() == 1


def test_without_a_program_or_a_file_it_needs_it_says_so_in_one_line_and_touches_no_environment(
    ready: Copy, tmp_path: Path
) -> None:
    for lost in (tmp_path / "bin" / "cat", ready.folder / "constraints.txt"):
        kept = lost.rename(tmp_path / "lost")
        result = ready.run("demo")
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert lost.name in result.stderr
        assert not ready.log()
        kept.rename(lost)

"""The launcher, as real processes: each test copies it into a folder of its own, whose name has a space.

No test installs anything: a stand-in interpreter logs what it is asked for and answers the launcher's probes.
The terminal is a real pseudo-terminal.
"""

from __future__ import annotations

import json
import os
import pty
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

HANG_PLAN = HANG.replace("STAND_IN_HANGS_JOB", "STAND_IN_HANGS_PLAN")


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
            [self.script, *arguments],
            cwd=cwd or self.folder.parent,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

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


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    for name in ("run_experiments.sh", "constraints.txt", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    stand_in = tmp_path / "bin" / "python3"
    write_program(
        stand_in,
        STAND_IN.format(
            python=shlex.quote(sys.executable), disguise=DISGUISE, disk=DISK, hang=HANG, hang_plan=HANG_PLAN
        ),
    )
    # Only system tools beside the stand-in: no other Python and no uv of the machine's owner is found first.
    for tool in TOOLS.split():
        if found := shutil.which(tool):
            (stand_in.parent / tool).symlink_to(found)
    env = {
        "PATH": str(stand_in.parent),
        "HOME": str(tmp_path),
        "PIP_USER": "1",
        "STAND_IN": str(stand_in),
        "STAND_IN_LOG": str(tmp_path / "log"),
    }
    return Copy(folder, env)


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


def at_prompt(keys: bytes, prompt: str = "Your choice") -> Callable[[str], bytes | None]:
    return lambda screen: keys if prompt in screen else None


def never(screen: str) -> None:
    """No key is pressed: a question would hold the launcher up until it is killed."""


# ---- usage, menu, wrong options ------------------------------------------------


def test_help_names_the_eight_options_on_stdout_and_without_a_terminal_is_what_is_said(copy: Copy) -> None:
    result = copy.run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for number, word in enumerate(OPTIONS, 1):
        assert f"  {number} {word} " in result.stdout
    bare = copy.run()
    assert (bare.returncode, bare.stdout, bare.stderr) == (2, "", result.stdout)
    assert not copy.log()


def test_an_unknown_option_is_one_line_and_exit_2(copy: Copy) -> None:
    for option in ("nonsense", "9", "", "demo quick"):
        result = copy.run(option)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        assert f"'{option}'" in result.stderr
    assert not copy.log()


def test_the_menu_takes_numbers_and_words(copy: Copy) -> None:
    screen, status = in_terminal(copy, [], at_prompt(b"1\n"))
    assert status == 0
    assert "8 check" in screen
    assert in_terminal(copy, [], at_prompt(b"standard\n"), at_prompt(b"y\n", "Start?"))[1] == 0
    assert copy.jobs() == ["-m scaling_lib run --mode demo", "-m scaling_lib run --mode standard --recipe v2"]


def test_the_menu_can_be_left_and_refuses_what_it_does_not_know(copy: Copy) -> None:
    for keys, expected in ((b"\n", 0), (b"\x04", 0), (b"42\n", 2)):  # enter, end of input
        assert in_terminal(copy, [], at_prompt(keys))[1] == expected
    assert not copy.log()


# ---- the jobs ------------------------------------------------------------------

JOBS = {
    "demo": "-m scaling_lib run --mode demo",
    "quick": "-m scaling_lib run --mode quick --recipe v2",
    "standard": "-m scaling_lib run --mode standard --recipe v2",
    "full": "-m scaling_lib run --mode full --recipe v2",
    "v1": "-m scaling_lib run --mode quick --recipe v1",
    "compare": "-m scaling_lib compare",
    "doctor": "-m scaling_lib doctor",
    "notebooks": "-m jupyterlab --ip=127.0.0.1 notebooks",
    "check": "-m pytest --nbval -m not slow and not browser",
    "test": "-m pytest --nbval -m not slow and not browser",
}


def test_each_word_and_number_runs_its_job_with_the_further_options(copy: Copy) -> None:
    numbers = {str(i): JOBS[word] for i, word in enumerate(OPTIONS, 1) if i in (1, 5, 8)}
    for name, job in {**JOBS, **numbers}.items():
        result = copy.run(name, "--max-steps", "7", "a b")
        assert result.returncode == 0, result.stderr
        assert result.stdout == "", "stdout belongs to the job"
        assert copy.jobs()[-1] == f"{job} --max-steps 7 a b"
    assert copy.installs() == 1, "one set of packages serves every option"


def test_notebooks_and_sliders_are_served_to_this_machine_only(copy: Copy) -> None:
    page = "notebooks/06_extrapolation_sliders.ipynb"
    assert (ROOT / page).is_file()
    for name in ("notebooks", "7"):
        result = copy.run(name, "sliders", "--port=9000", "a b")
        assert (result.returncode, result.stdout) == (0, "")
        assert copy.jobs()[-1] == f"-m voila --Voila.ip=127.0.0.1 --port=9000 a b {page}"
        assert copy.run(name).returncode == 0
        assert copy.jobs()[-1] == "-m jupyterlab --ip=127.0.0.1 notebooks"
    assert not any("token" in job or "password" in job for job in copy.jobs()), "JupyterLab keeps its own token"


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


@pytest.mark.parametrize("option", ["quick", "5"])
def test_what_takes_long_shows_its_cost_and_asks_a_person(copy: Copy, option: str) -> None:
    screen, status = in_terminal(copy, [option, "--max-steps", "4000"], at_prompt(b"y\n", "Start? [y/N]"))
    assert status == 0
    assert "environment: a stand-in" in screen
    assert screen.index("1.2e+15 FLOPs") < screen.index("about 9.5 h on this machine") < screen.index("Start?")
    (job,) = copy.jobs()
    assert job.endswith(" --max-steps 4000")
    plan = next(line for line in copy.log() if line.startswith("plan "))
    assert plan == f"plan {job} --dry-run --json"


@pytest.mark.parametrize("keys", [b"\n", b"\x04", b"yesterday\n"], ids=["enter", "end of input", "other"])
def test_any_other_answer_than_yes_trains_nothing(copy: Copy, keys: bytes) -> None:
    assert in_terminal(copy, ["quick"], at_prompt(keys, "Start?"))[1] == 0
    assert not copy.jobs()


def test_a_pipe_is_never_asked(copy: Copy) -> None:
    result = copy.run("quick")
    assert (result.returncode, result.stdout) == (0, "")  # the plan is for the person
    assert "about 9.5 h" in result.stderr
    assert "Start?" not in result.stderr
    assert len(copy.jobs()) == 1


def test_yes_answers_the_question_and_is_not_passed_on(copy: Copy) -> None:
    for arguments in (["quick", "--yes"], ["--yes", "2"]):
        screen, status = in_terminal(copy, arguments, never)
        assert status == 0
        assert "about 9.5 h" in screen
    assert copy.jobs() == ["-m scaling_lib run --mode quick --recipe v2"] * 2


def test_ten_minutes_or_more_ask_and_less_does_not(copy: Copy) -> None:
    for said in ("0.5", "599.9"):
        assert in_terminal(copy, ["v1"], never, STAND_IN_TIME=said)[1] == 0
    assert len(copy.jobs()) == 2
    for said in ("600", "3e5"):
        assert "Start?" in in_terminal(copy, ["v1"], at_prompt(b"n\n", "Start?"), STAND_IN_TIME=said)[0]
    assert len(copy.jobs()) == 2


def test_the_plan_that_is_read_is_the_plan_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the launcher finds what it looks for."""
    from scaling_lib.cli import main
    from scaling_lib.sweep import cost

    monkeypatch.setattr(cost, "calibrate", lambda plan, budget=0.0: {c.model: 1e-6 for c in plan.cells})
    plan = ["run", "--mode", "quick", "--sizes", "1", "--max-steps", "5", "--dry-run"]
    assert main(plan) == 0
    shown = capsys.readouterr().out
    assert main([*plan, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.endswith(shown)
    found = json.loads(out)
    assert len(found["runs"]) == len([line for line in shown.splitlines() if line.split()[0] in ("v1", "v2")]) == 2
    assert found["flops"] == sum(run["flops"] for run in found["runs"])
    assert 0 < found["expected_seconds"] < 60
    assert shown.endswith(f"about {duration(found['expected_seconds'])} on this machine\n")


def test_a_dry_run_and_help_are_passed_on_without_a_question(copy: Copy) -> None:
    for option in ("--dry-run", "--help"):
        screen, status = in_terminal(copy, ["full", option], never)
        assert status == 0
        assert "Start?" not in screen
        assert copy.log()[-1].endswith(f"-m scaling_lib run --mode full --recipe v2 {option}")


def test_a_plan_that_is_refused_ends_with_its_status_and_message(copy: Copy) -> None:
    result = copy.run("quick", "--corpus", "none", STAND_IN_PLAN_FAILS="1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "scaling_lib: no such corpus"
    assert not copy.jobs()


# ---- the environment -----------------------------------------------------------


def test_the_machine_is_described_before_anything_is_installed_and_a_small_disk_stops_it(copy: Copy) -> None:
    small = copy.run("demo", STAND_IN_DISK="1.2")
    assert small.returncode == 1
    assert "1 GB of disk free" in small.stderr
    assert not (copy.folder / ".venv").exists()
    result = copy.run("demo", STAND_IN_DISK="20")
    assert result.returncode == 0
    line = next(x for x in result.stderr.splitlines() if x.startswith("this machine: "))
    for what in ("cores, memory", "GB of disk free", "NVIDIA GPU", "C++ compiler"):
        assert what in line
    assert copy.log().index("machine") < next(i for i, x in enumerate(copy.log()) if x.startswith("-m venv"))


def test_the_first_call_sets_up_with_the_constraints_and_the_second_does_not(copy: Copy) -> None:
    first = copy.run("demo")
    assert first.returncode == 0, first.stderr
    install = next(line for line in copy.log() if "[notebooks,test]" in line)
    assert "-c constraints.txt -e .[notebooks,test]" in install
    assert "install.log" in first.stderr
    assert "environment: a stand-in" in first.stderr
    before = copy.log()
    second = copy.run("demo")
    assert second.stderr == "running: python -m scaling_lib run --mode demo\n"
    assert copy.log() == [*before, "job -m scaling_lib run --mode demo"]


def test_a_changed_file_installs_again_into_the_same_environment(copy: Copy) -> None:
    copy.run("demo")
    (copy.folder / ".venv" / "kept").touch()
    for i, name in enumerate(("constraints.txt", "pyproject.toml"), 2):
        with (copy.folder / name).open("a") as file:
            file.write("# changed\n")
        result = copy.run("demo")
        assert result.returncode == 0
        assert name in result.stderr
        assert (copy.installs(), len(copy.jobs())) == (i, i)
    assert (copy.folder / ".venv" / "kept").exists()
    copy.run("demo")
    assert copy.installs() == 3


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
        [copy.script, "demo"],
        env={**copy.env, "STAND_IN_HANGS": str(running)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
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


def test_a_moved_folder_is_set_up_anew_and_an_interpreter_that_has_gone_is_replaced(copy: Copy, tmp_path: Path) -> None:
    copy.run("demo")
    moved = Copy(tmp_path / "moved", copy.env)
    copy.folder.rename(moved.folder)
    (moved.folder / ".venv" / "old").touch()
    assert moved.run("demo").returncode == 0
    assert moved.installs() == 2
    assert not (moved.folder / ".venv" / "old").exists()
    (moved.folder / ".venv" / "bin" / "python").unlink()
    assert moved.run("demo").returncode == 0
    assert moved.installs() == 3


@pytest.mark.parametrize("serves", [True, False])
def test_an_environment_of_the_users_own_is_kept_or_left_alone(copy: Copy, serves: bool) -> None:
    mine = copy.folder / ".venv" / "mine"
    mine.parent.mkdir()
    mine.touch()
    if serves:
        write_program(copy.folder / ".venv" / "bin" / "python", Path(copy.env["STAND_IN"]).read_text())
    result = copy.run("demo")
    assert (result.returncode, len(copy.jobs())) == ((0, 1) if serves else (1, 0))
    assert ("it is kept" if serves else "move it away") in result.stderr
    assert mine.exists()


# ---- which Python, which torch -------------------------------------------------


def test_a_python_that_is_too_old_is_named_and_PYTHON_chooses_another(copy: Copy, tmp_path: Path) -> None:
    result = copy.run("demo", STAND_IN_VERSION="3.9.18")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "python3 is 3.9.18" in result.stderr
    result = copy.run("demo", PYTHON="/nowhere/python")  # and it is not replaced
    assert result.returncode == 1
    assert "PYTHON=/nowhere/python" in result.stderr
    assert not (copy.folder / ".venv").exists()
    other = tmp_path / "other" / "python"
    write_program(other, Path(copy.env["STAND_IN"]).read_text())
    result = copy.run("demo", cwd=tmp_path, PYTHON="other/python", STAND_IN=str(other))
    assert result.returncode == 0, result.stderr
    assert str(other) in result.stderr


def test_the_version_of_the_records_comes_first_and_a_placeholder_is_passed_over(copy: Copy, tmp_path: Path) -> None:
    newer, own = (tmp_path / "bin" / f"python3.{minor}" for minor in (13, 11))
    newer.symlink_to(copy.env["STAND_IN"])
    write_program(own, "#!/bin/sh\nexit 127\n")  # as version managers leave behind
    result = copy.run("demo", STAND_IN=str(newer))
    assert f"({newer})" in result.stderr
    shutil.rmtree(copy.folder / ".venv")
    own.unlink()
    own.symlink_to(copy.env["STAND_IN"])
    result = copy.run("demo", STAND_IN=str(own))
    assert result.returncode == 0, result.stderr
    assert f"({own})" in result.stderr


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


def test_a_path_without_a_program_it_needs_is_said_and_no_environment_is_touched(copy: Copy, tmp_path: Path) -> None:
    assert copy.run("demo").returncode == 0
    before = copy.log()
    (tmp_path / "bin" / "cat").unlink()
    result = copy.run("demo")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert copy.log() == before


def test_a_script_that_has_lost_its_repository_says_so(copy: Copy) -> None:
    (copy.folder / "constraints.txt").unlink()
    result = copy.run("demo")
    assert result.returncode == 1
    assert "constraints.txt" in result.stderr

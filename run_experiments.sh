#!/bin/sh
# The launcher: sets up .venv beside this file where needed, then does one of eight jobs; --help lists them.
# Plain POSIX shell, to start on macOS and on a bare Linux alike. What it says itself goes to stderr: stdout is the job's.
set -eu

say() { printf '%s\n' "$*" >&2; }
stop() { status=$1; shift; say "run_experiments.sh: $*"; exit "$status"; }

# Without one of these it would take what it cannot read for missing, such as its own .venv for another's.
for tool in cat cut dirname mkdir rm tail uname; do
    command -v "$tool" >/dev/null 2>&1 || stop 1 "the program $tool is not found in PATH=$PATH"
done
export PIP_USER=0 # a user's own default would install elsewhere than into .venv, which pip refuses

usage() {
    cat <<'TEXT'
Usage: ./run_experiments.sh OPTION [further options, passed on to the job]

  1 demo       V1 beside V2 and a first scaling law on real text, in minutes on two cores
  2 quick      V2, 2M to 50M parameters: a night on two cores, minutes on a GPU
  3 standard   V2, 5M to 200M parameters: one GPU
  4 full       V2, 5M to 500M parameters: one or more GPUs
  5 v1         the V1 baseline at the quick sizes
  6 compare    V1 with V2, and a quick look with a real sweep: two tables and a figure
  7 notebooks  JupyterLab on the notebooks; "notebooks sliders" serves the sliders as a page without code
  8 check      check the environment and run the tests (its other name: test)
    doctor     look at this machine: what it has, how fast it is, what will run on it

The number or the word chooses: "./run_experiments.sh 2 --dry-run" is "./run_experiments.sh quick --dry-run".
Options 2 to 5 first show what they will cost. Where that is ten minutes or more they ask before they start: not in a
pipe, and not with --yes.
The first call makes .venv beside this file and installs into it, which takes minutes; later calls start at once.
PYTHON=/path/to/python chooses the interpreter (tried: 3.11 to 3.13). Relative paths start at this file's folder.
TEXT
}

# ---- the interpreter ------------------------------------------------------------

# Prints "VERSION PATH" of the interpreter under any virtual environment; fails if it is too old or cannot make one.
PROBE='
import sys
sys.stdout.write("%d.%d.%d %s" % (sys.version_info[:3] + (getattr(sys, "_base_executable", sys.executable),)))
sys.stdout.flush()
if sys.version_info < (3, 11): sys.exit(1)
import ensurepip, venv
'

suits() { # COMMAND: is it good enough? Sets base and base_version, or adds the reason to $rejected.
    command -v "$1" >/dev/null 2>&1 || return 1
    if probe=$("$1" -c "$PROBE" 2>/dev/null); then
        base_version=${probe%% *} base=${probe#* }
        return 0
    fi
    case ${probe%% *} in
        '') ;; # a name that leads nowhere, such as a version manager's placeholder
        3.1[1-9]* | 3.[2-9][0-9]*) rejected="$rejected; $1 lacks venv (on Debian and Ubuntu: apt install python3-venv)" ;;
        *) rejected="$rejected; $1 is ${probe%% *}" ;;
    esac
    return 1
}

find_python() {
    rejected=''
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || stop 1 "PYTHON=$PYTHON is not a Python 3.11 or newer with venv${rejected}"
        return
    fi
    # Those that were tried, and first the one that trained the committed runs: its library is the text they read.
    for name in python3.11 python3.13 python3.12 python3 python; do
        if suits "$name"; then return; fi
    done
    stop 1 "no Python 3.11 or newer found${rejected}; install one, or name one with PYTHON=/path/to/python"
}

# ---- the environment ------------------------------------------------------------

# What an installed environment depends on, as "HASH VERSION FOLDER": a virtual environment cannot be moved.
STAMP='
import hashlib, pathlib, pip, sys
files = b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
print(hashlib.sha256(files).hexdigest(), "%d.%d.%d" % sys.version_info[:3], sys.argv[1])
'

# The machine in words, by the standard library alone; fails where the disk cannot hold what would be installed.
MACHINE='
import os, platform, shutil, sys
need, gpu = float(sys.argv[1]), sys.argv[2]
free = shutil.disk_usage(".").free / 1e9
try: memory = "%.0f GB" % (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
except (AttributeError, ValueError, OSError): memory = "unknown"
compiler = shutil.which(os.environ.get("CXX") or "c++") or "none (nothing here needs one: large models train a little slower)"
print("this machine: %s %s, %s cores, memory %s, %.0f GB of disk free (%.0f are wanted), %s, C++ compiler %s"
    % (platform.system(), platform.machine(), os.cpu_count(), memory, free, need, gpu, compiler))
sys.exit(free < need)
'

# Imports what every job needs (isolated, so that the installed package is meant, not the folder) and says what it found.
CHECK='
import os, platform, shutil, sys
import matplotlib, numpy, psutil, scipy, tokenizers, torch
from scaling_lib.machine import cores, memory_bytes
gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "MPS" if torch.backends.mps.is_available() else "none"
memory, disk = memory_bytes() / 1e9, shutil.disk_usage(sys.prefix).free / 1e9
compiler = shutil.which(os.environ.get("CXX") or "c++") or "none"
print(
    f"environment: Python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}; {cores()} cores, "
    f"{memory:.0f} GB memory, GPU {gpu}, {disk:.0f} GB of disk free, C++ compiler {compiler}",
    file=sys.stderr,
)
if disk < 1: sys.exit("the disk is nearly full: make room first, since a run that cannot be written is lost")
'

state_of_venv() { # missing, busy, current, changed (other files), foreign (not made by us), broken (ours, unusable), unusable
    if [ ! -d .venv ]; then echo missing; return; fi
    old=$(cat "$stamp" 2>/dev/null) || old=''
    if [ "${old%% *}" = incomplete ] && kill -0 "${old#* }" 2>/dev/null; then echo busy; return; fi
    if ! new=$("$python" -c "$STAMP" "$root" 2>/dev/null); then
        if [ -n "$old" ]; then echo broken; else echo unusable; fi
    elif [ -n "${PYTHON:-}" ] && [ "${new#* }" != "$base_version $root" ]; then
        if [ -n "$old" ]; then echo broken; else echo unusable; fi
    elif [ -z "$old" ]; then echo foreign
    elif [ "$old" = "$new" ]; then echo current
    elif [ "${old#* }" = "${new#* }" ]; then echo changed
    else echo broken
    fi
}

logged() { # WHAT COMMAND...: run it into the log; on failure show the log's end and stop.
    what=$1; shift
    printf '\n--- %s\n' "$what" >>"$log"
    ("$@") >>"$log" 2>&1 && return # in a subshell, so that what a trap says here does not go into the log
    tail -n 20 "$log" >&2
    stop 1 "$what failed; the lines above end the log $log. Mend the cause and call again: it starts where it must"
}

pip_install() { "$python" -m pip install --no-input --disable-pip-version-check --progress-bar off -c constraints.txt "$@"; }

has_nvidia() { [ -e /dev/nvidiactl ] || nvidia-smi -L >/dev/null 2>&1; }

# On Linux the package index serves torch with gigabytes of CUDA libraries. uv knows where the CPU build is, and which
# CUDA build fits a driver. It is asked first whether it can reach them, for seconds only; else pip takes what it finds.
install_torch() {
    if [ "$(uname -s)" != Linux ]; then say '[2/4] torch: the build for this system comes with the rest'; return; fi
    gpu='no NVIDIA GPU'
    if has_nvidia; then gpu='NVIDIA GPU'; fi
    uv=$(command -v uv) || uv=''
    if [ -z "$uv" ] && [ "$gpu" = 'no NVIDIA GPU' ]; then
        pip_install uv >>"$log" 2>&1 && uv=.venv/bin/uv
    fi
    if [ -n "$uv" ] && UV_HTTP_TIMEOUT=5 UV_HTTP_RETRIES=0 \
        timeout 20 "$uv" pip install --dry-run --python "$python" --torch-backend=auto -c constraints.txt torch >>"$log" 2>&1
    then
        say "[2/4] torch: $gpu, uv brings the build that fits (a CPU build is about 200 MB)"
        logged 'installing torch' "$uv" pip install --python "$python" --torch-backend=auto -c constraints.txt torch
    else
        say "[2/4] torch: $gpu, and uv cannot choose a build here: pip takes the index's (a CUDA build is about 3 GB)"
    fi
}

check_machine() { # GIGABYTES: say what this machine is, before anything is installed on it
    gpu='no NVIDIA GPU'
    if has_nvidia; then gpu='NVIDIA GPU'; fi
    if machine=$("$base" -c "$MACHINE" "$1" "$gpu"); then say "$machine"; return; fi
    say "$machine"
    stop 1 "too little disk is free in $root: make room, or move the folder to a larger disk"
}

set_up() { # [check]: say what the environment is even if nothing has to be installed
    root=$(pwd -P) python=.venv/bin/python stamp=.venv/scaling-lib.stamp
    log=$root/.venv/install.log
    if [ ! -f pyproject.toml ] || [ ! -f constraints.txt ]; then
        stop 1 "pyproject.toml and constraints.txt are not beside it in $root: run it from a full copy of the repository"
    fi
    if [ -n "${PYTHON:-}" ]; then find_python; fi
    state=$(state_of_venv)
    if [ "$state" = current ]; then
        if [ "${1:-}" = check ]; then "$python" -I -c "$CHECK"; fi
        return
    fi
    trap 'stop 130 "interrupted; the next call repairs the set-up"' INT
    trap 'stop 143 "ended; the next call repairs the set-up"' TERM HUP
    case $state in
        busy) stop 1 "another call (process $(cut -d " " -f 2 "$stamp")) is setting up $root/.venv: wait for it" ;;
        unusable)
            stop 1 "$root/.venv was not made by this script and does not serve (another Python, or no pip): move it away" ;;
        foreign) say '[1/4] .venv is here already: it is kept, and installed into' ;;
        changed) say '[1/4] pyproject.toml or constraints.txt has changed: .venv is brought into line'
            echo "incomplete $$" >"$stamp" ;;
        *)
            find_python
            if has_nvidia; then check_machine 8; else check_machine 3; fi # a CUDA build of torch is large
            say "[1/4] making .venv with Python $base_version ($base): some seconds"
            rm -rf .venv
            mkdir .venv
            echo "incomplete $$" >"$stamp" # until the end: what is interrupted is made anew by the next call
            logged 'making .venv' "$base" -m venv .venv ;;
    esac
    install_torch
    say "[3/4] installing the packages of constraints.txt: one to five minutes; log: $log"
    logged 'installing the packages' pip_install -e '.[notebooks,test]'
    say '[4/4] checking the environment: some seconds'
    logged 'checking the environment' "$python" -I -c "$CHECK"
    tail -n 1 "$log" >&2
    "$python" -c "$STAMP" "$root" >"$stamp"
    trap - INT TERM HUP
}

# ---- the jobs -------------------------------------------------------------------

run_module() { # the environment is set up; the job replaces this shell, so that its exit status and Ctrl-C are its own.
    say "running: python -m $*"
    exec "$python" -m "$@"
}

sweep() {
    set_up
    run_module scaling_lib run "$@"
}

takes_long() { # PLAN: are ten minutes or more expected?
    printf '%s' "$1" | "$python" -c 'import json, sys; sys.exit(json.load(sys.stdin)["expected_seconds"] < 600)'
}

long_sweep() { # what it will cost is shown first; a person is asked, a pipe never is
    set_up
    "$python" -I -c "$CHECK"
    for word; do
        case $word in --dry-run | --help | -h) run_module scaling_lib run "$@" ;; esac
    done
    trap 'exit 130' INT
    plan=$("$python" -m scaling_lib run "$@" --dry-run --json) || exit $? # for a person it is on stderr
    if [ -z "$yes" ] && [ -t 0 ] && [ -t 2 ] && takes_long "$plan"; then
        printf 'It can be interrupted and goes on where it was. Start? [y/N] ' >&2
        IFS= read -r answer || answer=''
        case $answer in
            [yY] | [yY][eE][sS]) ;;
            *)
                say 'nothing was trained'
                exit 0 ;;
        esac
    fi
    trap - INT
    run_module scaling_lib run "$@"
}

yes=''
for word; do # taken out here: it is the launcher's own
    shift
    if [ "$word" = --yes ]; then yes=1; else set -- "$@" "$word"; fi
done

case ${PYTHON:-} in
    /*) ;;
    */*) PYTHON=$PWD/$PYTHON ;; # a relative path is meant from where the caller stands
esac
cd -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)"

if [ $# -eq 0 ]; then
    if [ ! -t 0 ] || [ ! -t 2 ]; then
        usage >&2
        exit 2
    fi
    usage >&2
    printf '\nYour choice (1 to 8, Enter to leave): ' >&2
    IFS= read -r choice || choice=''
    if [ -z "$choice" ]; then exit 0; fi
    set -- "$choice"
fi
option=$1
shift

case $option in
    1 | demo) sweep --mode demo "$@" ;;
    2 | quick) long_sweep --mode quick --recipe v2 "$@" ;;
    3 | standard) long_sweep --mode standard --recipe v2 "$@" ;;
    4 | full) long_sweep --mode full --recipe v2 "$@" ;;
    5 | v1) long_sweep --mode quick --recipe v1 "$@" ;;
    6 | compare)
        set_up
        run_module scaling_lib compare "$@" ;;
    7 | notebooks)
        set_up
        if [ "${1:-}" = sliders ]; then # on this machine only: whoever reaches the page runs the notebook
            shift
            run_module voila --Voila.ip=127.0.0.1 "$@" notebooks/06_extrapolation_sliders.ipynb
        fi
        run_module jupyterlab --ip=127.0.0.1 notebooks "$@" ;;
    8 | check | test)
        set_up check
        # A process for each core, at most four, with one thread each; "-n 0" is one process for all.
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
        run_module pytest --nbval -n logical --maxprocesses 4 -m 'not slow and not browser' "$@" ;;
    doctor)
        set_up
        run_module scaling_lib doctor "$@" ;;
    -h | --help | help) usage ;;
    *) stop 2 "unknown option '$option': choose 1 to 8 or a name (--help lists them)" ;;
esac

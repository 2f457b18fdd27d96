"""The command line: parse, call the library, print. The only module that prints or exits.

Data goes to stdout, progress and errors to stderr. Exit 0: done; 1: some runs failed; 2: wrong usage or bad
input, one line; 130: interrupted.
"""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from scaling_lib import __version__, cli_doctor, cli_fit, cli_next, cli_show, cli_sweep  # noqa: F401 (each fills COMMANDS)
from scaling_lib.cli_shared import COMMANDS, independent_of_its_start, say
from scaling_lib.errors import InputError
from scaling_lib.interrupts import ended_like_ctrl_c
from scaling_lib.machine import address_space

LEAST_SPACE = 4e8  # bytes to address: with fewer SciPy cannot be loaded, or waits for memory for ever


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, not the whole usage; exit 2."""
        self.exit(2, f"{self.prog}: {_one_line(message)}; see {self.prog} --help\n")


def _given(text: str) -> str:
    """An argument as it is; an empty one is a shell variable that was not set, and would mean this very folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty (a shell variable that is not set?)")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    independent_of_its_start()
    try:
        with ended_like_ctrl_c():
            args = _parser().parse_args(argv)
            if (space := address_space()) < LEAST_SPACE:
                raise InputError(
                    f"this process may use {space / 1e6:.0f} MB of memory (ulimit -v); "
                    f"{LEAST_SPACE / 1e6:.0f} MB are needed"
                )
            status = int(args.call(args))
            sys.stdout.flush()  # so that a reader who has left is noticed here, not while Python shuts down
        return status
    except InputError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        # Without --force (or a shortened form of it), which would start over instead of going on.
        words = [w for w in argv or sys.argv[1:] if len(w) < 3 or not "--force".startswith(w)]
        python = Path(sys.executable)  # as a person here would call it: relative where it lies below the working folder
        here = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
        again = shlex.join([str(here), "-m", "scaling_lib", *words])
        with contextlib.suppress(OSError):  # the terminal may be gone
            say(f"\nscaling_lib: interrupted; finished runs are kept. To go on: {again}")
        return 130
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package == "scaling_lib":
            raise
        if isinstance(error, ModuleNotFoundError):  # a Python that knows the folder but not the packages
            how = "run ./run_experiments.sh check once, then source .venv/bin/activate"
            return _refuse(f"{package} is not installed in {sys.executable}; {how}")
        while isinstance(error.__cause__, ImportError):  # NumPy explains itself in twenty lines, and then says why
            error = error.__cause__
        return _refuse(f"a package cannot be loaded ({error}); too little memory (ulimit -v), or a broken installation")
    except MemoryError:
        return _refuse("the memory that this process may use is too small (ulimit -v, a container's limit)")
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that the system refuses, such as a name that is too long
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(where + (error.strerror or str(error)))


def _refuse(why: str) -> int:
    with contextlib.suppress(OSError):  # a full disk may be what is wrong
        say(f"scaling_lib: {_one_line(why)}")
    return 2


def script(about: str | None, command: str, *options: str) -> int:
    """Run one of the scripts that people know: a command with options of its own before those that are given.

    ``about`` is the script's help. A recipe that is given takes the place of the script's, since recipes add up.
    """
    given = sys.argv[1:]
    if {"-h", "--help"} & set(given):
        print((about or "").strip())  # python -OO keeps no such texts
        return 0
    own = list(options)
    if "--recipe" in own and any(len(w) > 4 and "--recipe".startswith(w.partition("=")[0]) for w in given):
        at = own.index("--recipe")
        del own[at : at + 2]
    return main([command, *own, *given])


def _one_line(message: str) -> str:
    """A message that quotes a path or an argument with a line break in it, in one line all the same."""
    return " ".join(message.splitlines())


# In the order of --help.
ORDER = (
    "plan", "run", "summary", "figures", "fit", "backtest", "predict", "compare", "next", "lab", "noise", "pack",
    "doctor",
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="scaling_lib", description="Train small GPTs, fit scaling laws, draw what was found.")
    parser.add_argument("--version", action="version", version=f"scaling_lib {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in ORDER:
        call, text, options = COMMANDS[name]
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(call=call)
        command.register("type", None, _given)  # of what is read as plain text
        command.register("type", Path, lambda text: Path(_given(text)))
        for one in options:
            group = command.add_mutually_exclusive_group() if isinstance(one, list) else command
            for names, how in one if isinstance(one, list) else [one]:
                group.add_argument(*names, **how)
    return parser

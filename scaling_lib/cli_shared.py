"""What the commands share: options, messages, JSON, records and their report. A part of the command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.errors import InputError
from scaling_lib.runs import Run, check_poolable, read_runs
from scaling_lib.sweep.recipes import peak_lr
from scaling_lib.words import plain_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure


USUAL = warnings.formatwarning
Call = Callable[[argparse.Namespace], int]
COMMANDS: dict[str, tuple[Call, str, tuple[Any, ...]]] = {}  # what `command` was told


def option(*names: str, **how: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """One option, as argparse's ``add_argument`` takes it."""
    return names, how


def command(name: str, text: str, *options: Any) -> Callable[[Call], Call]:
    """Make a function a command, with its help and its options; a list among them holds some that exclude others."""

    def known(call: Call) -> Call:
        COMMANDS[name] = call, text, options
        return call

    return known


def independent_of_its_start() -> None:
    """Make up for what a process may be started with: closed streams, an ASCII locale, a screen to draw on.

    A stream that is closed leads nowhere; else the next file that is opened would take its number, and get its words.
    A character that the locale lacks is written as its number. A variable that is empty counts as unset, but where it
    hides all graphics cards. Figures are drawn into files alone. A warning is one line.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nowhere, True)  # for the workers
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r"))
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in [name for name, value in os.environ.items() if not value and not name.endswith("VISIBLE_DEVICES")]:
        del os.environ[name]
    os.environ.pop("SOURCE_DATE_EPOCH", None)  # no file here has a date, and matplotlib fails at a bad one
    os.environ["MPLBACKEND"] = "agg"
    warnings.formatwarning = _in_one_line


def _in_one_line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
    own = category is UserWarning  # as this library warns
    return f"scaling_lib: {message}\n" if own else USUAL(message, category, *place, **more)


def say(text: str) -> None:
    """A message for the person, on stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print data as JSON knows it: a number without an end becomes null."""
    print(json.dumps(plain_data(value), indent=1, allow_nan=False))


def positive(kind: type) -> Any:
    """An argument's type: a whole number of at least 1, or a finite number above 0."""

    def convert(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if 0 < (value := kind(text)) < float("inf"):
                return value
        what = "a whole number of at least 1" if kind is int else "a number above 0"
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")

    return convert


# Options of several commands.
JSON = option("--json", action="store_true", help="print JSON")
LEVEL = option("--level", type=float, default=0.9, help="confidence of the intervals (default: 0.9)")
FIGURES = option("--out", type=Path, default=Path("figures"), metavar="DIR",
    help="folder for the figure (default: figures)")  # fmt: skip
# How a .csv file is read: which columns, which rows.
TABLE = (
    option("--columns", action="append", default=[], metavar="N=params,loss=final_loss",
        help="headings of a .csv file by role: N, D, C, loss, unit, group, label; loss=ln(ppl) for perplexities"),
    option("--where", action="append", default=[], metavar="experiment=c4",
        help="only the rows of a .csv file that meet it (=, !=, <, >, <=, >=); may be repeated"),
    option("--rows", metavar="best|last|all",
        help="of a .csv file with several rows per size and length or per run: the lowest loss, the last row, or all"),
)  # fmt: skip


def no_table(args: argparse.Namespace) -> None:
    """Refuse what only goes with a .csv file."""
    refuse(args, "is for .csv files; leave it out", "columns", "where", "rows")


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """What was given of `TABLE`, as ``read_table`` takes them."""
    columns: dict[str, str] = {}
    roles = "N|D|C|loss|unit|group|label"  # a comma elsewhere is part of a heading
    for part in (p for text in args.columns for p in re.split(rf",(?=\s*(?:{roles})\s*=)", text)):
        role, mark, heading = part.partition("=")
        if not mark or not heading.strip():
            raise InputError(f"--columns {part!r}: write it as role=heading, such as N=params")
        columns[role.strip()] = heading.strip()
    given = {"columns": columns, "where": args.where, "rows": args.rows}
    return {k: v for k, v in given.items() if v}


def refuse(args: argparse.Namespace, why: str, *options: str) -> None:
    """Raise InputError if one of the options was given."""
    for option in options:
        if getattr(args, option):
            raise InputError(f"--{option.replace('_', '-')} {why}")


def finished(folder: Path, recipe: str | None) -> list[Run]:
    """The finished runs of one recipe in a folder; ``recipe`` may be None where it holds one only."""
    runs = [r for r in read_runs(folder) if r.finished]
    if not runs:
        raise InputError(f"{folder}: no run in the folder has finished, so there is nothing to fit")
    known = sorted({r.config.train.recipe for r in runs})
    if recipe is None and len(known) > 1:
        raise InputError(f"{folder} holds several recipes ({', '.join(known)}); choose one with --recipe")
    own = [r for r in runs if recipe in (None, r.config.train.recipe)]
    if not own:
        raise InputError(f"no finished runs of recipe {recipe!r} in {folder}, which holds {', '.join(known)}")
    check_poolable(own)
    return own


def print_report(runs: Sequence[Run]) -> None:
    """Tables, laws and verdicts of a sweep; of a study of learning rates, its scans."""
    from scaling_lib.show.rates import is_rate_study, rate_report
    from scaling_lib.show.report import sweep_report

    print(rate_report(runs, peak_lr) if is_rate_study(runs) else sweep_report(runs))


def save_figure(name: str, draw: Callable[[Figure], object], out: Path, tall: bool = False) -> Path:
    """Draw the figure of a command as ``out/NAME.png``."""
    from scaling_lib.show import export
    from scaling_lib.show.story import Story

    return export.save_picture(Story(name, "", draw, tall=tall), out, ["png"], "blog")[0]

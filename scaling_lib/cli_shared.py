"""What the commands share: options, messages, JSON, records and their report. A part of the command line."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaling_lib.runs import Run

# Options of several commands: ``add("--json", **JSON)``.
JSON: dict[str, Any] = {"action": "store_true", "help": "print JSON"}
LEVEL: dict[str, Any] = {"type": float, "default": 0.9, "help": "confidence of the intervals (default: 0.9)"}
FOR_TABLES = "is for .csv files; leave it out"
FIGURES: dict[str, Any] = {
    "type": Path, "default": Path("figures"), "metavar": "DIR", "help": "folder for the figure (default: figures)"
}  # fmt: skip


def say(text: str) -> None:
    """A message for the person, on stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print data as JSON knows it: a number without an end becomes null."""
    print(json.dumps(_plain(value), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def positive(kind: type) -> Any:
    """An argument's type: a whole number of at least 1, or a finite number above 0."""

    def convert(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if 0 < (value := kind(text)) < float("inf"):
                return value
        what = "a whole number of at least 1" if kind is int else "a number above 0"
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")

    return convert


def table_options(parser: argparse.ArgumentParser) -> None:
    """How a .csv file is read: which columns, which rows."""
    add = parser.add_argument
    add("--columns", action="append", default=[], metavar="N=params,loss=final_loss",
        help="headings of a .csv file by role: N, D, C, loss, unit, group, label; loss=ln(ppl) for "
        "perplexities")  # fmt: skip
    add("--where", action="append", default=[], metavar="experiment=c4",
        help="only the rows of a .csv file that meet it (=, !=, <, >, <=, >=); may be repeated")  # fmt: skip
    add("--rows", metavar="best|last|all",
        help="of a .csv file with several rows per size and length or per run: the lowest loss, the last row, or "
        "all")  # fmt: skip


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """What ``table_options`` were given, as ``read_table`` takes them."""
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


def records(folder: Path) -> list[Run]:
    """The run records of a folder."""
    from scaling_lib.runs import read_runs

    return read_runs(folder)


def finished(folder: Path, recipe: str | None) -> list[Run]:
    """The finished runs of one recipe in a folder; ``recipe`` may be None where it holds one only."""
    from scaling_lib.runs import check_poolable

    runs = [r for r in records(folder) if r.finished]
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
    from scaling_lib.sweep.recipes import peak_lr

    print(rate_report(runs, peak_lr) if is_rate_study(runs) else sweep_report(runs))


def save_figure(name: str, draw: Callable[[Figure], object], out: Path, tall: bool = False) -> Path:
    """Draw the figure of a command as ``out/NAME.png``."""
    from scaling_lib.show import export
    from scaling_lib.show.figures import Named

    def on(figure: Figure) -> None:
        draw(figure)

    return export.save_named(Named(name, on, "", "", tall=tall), out, ["png"], "blog")[0]


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """What asks a process to end (kill, a time limit, a closed terminal) ends it as Ctrl-C does, its workers too.

    A second signal ends it at once. One that is ignored stays so, as nohup and a shell's background want it.
    """
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]

    def interrupt(signum: int, frame: object) -> None:
        for number in numbers:
            signal.signal(number, end_at_once)
        raise KeyboardInterrupt

    def end_at_once(signum: int, frame: object) -> None:
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(130)

    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

"""What the commands share: messages, numbers from words, records and their report. A part of the command line."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.errors import InputError

if TYPE_CHECKING:
    from scaling_lib.runs import Run


def say(text: str) -> None:
    """A message for the person, on stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def positive(kind: type) -> Any:
    """An argument's type: a whole number of at least 1, or a finite number above 0."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not 0 < value < float("inf"):
            what = "a whole number of at least 1" if kind is int else "a number above 0"
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")
        return value

    return convert


def records(folder: Path, allow_none: bool = False) -> list[Run]:
    """The run records of a folder."""
    from scaling_lib.runs import has_records, read_runs

    if allow_none and not has_records(folder):
        return []
    return read_runs(folder)


def table_options(parser: argparse.ArgumentParser) -> None:
    """How a .csv file is read: which columns, which rows."""
    add = parser.add_argument
    add(
        "--columns", action="append", default=[], metavar="N=params,loss=final_loss",
        help="headings of a .csv file by role: N, D, C, loss, unit, group, label; loss=ln(ppl) for perplexities",
    )  # fmt: skip
    add(
        "--where", action="append", default=[], metavar="experiment=c4",
        help="only the rows of a .csv file that meet it (=, !=, <, >, <=, >=); may be repeated",
    )  # fmt: skip
    add(
        "--rows", metavar="best|last|all",
        help="of a .csv file with several rows per size and length or per run: the lowest loss, the last row, or all",
    )  # fmt: skip


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """What ``table_options`` were given, as ``read_table`` takes them."""
    columns: dict[str, str] = {}
    for part in ",".join(args.columns).split(",") if args.columns else ():
        role, mark, heading = part.partition("=")
        if not mark or not heading.strip():
            raise InputError(f"--columns {part!r}: write it as role=heading, such as N=params")
        columns[role.strip()] = heading.strip()
    given = {"columns": columns, "where": args.where, "rows": args.rows}
    return {k: v for k, v in given.items() if v}


def print_report(runs: Sequence[Run]) -> None:
    """Tables, laws and verdicts of a sweep; of a study of learning rates, its scans."""
    from scaling_lib.show.rates import is_rate_study, rate_report
    from scaling_lib.show.report import sweep_report
    from scaling_lib.sweep.recipes import peak_lr

    print(rate_report(runs, peak_lr) if is_rate_study(runs) else sweep_report(runs))


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM (kill, a batch system's time limit) ends what is inside as Ctrl-C does: the workers with it."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Read a table of training runs (N, D or C, loss) from a CSV file that a person wrote.

Everything downstream trusts a :class:`RunTable`: finite, positive, in plain counts and in one loss unit, and of one
experiment. What cannot be read with certainty is refused with one line that names the row, the column and the remedy.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from scaling_lib.errors import InputError
from scaling_lib.fit._headings import COUNTS, LOSS_UNITS, NATS, assign, check, delimiter, number, plain, recognise, show
from scaling_lib.fit._run_table import RunTable, make_table, one_training_per_row, rows_where

__all__ = ["RunTable", "parse_table", "read_table", "table_from_arrays"]
Floats = NDArray[np.float64]
MAX_ROWS = 200_000
HIGHEST = 20.0  # nats per token: to know nothing costs ln(vocabulary), which is at most 12.5


def read_table(
    source: str | os.PathLike[str] | TextIO,
    *,
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    rows: str = "ask",
    max_rows: int = MAX_ROWS,
) -> RunTable:
    """Read a CSV of runs from a path or an open text file.

    The first row holds the headings. Needed are a loss and at least one of N, D, C; where two of the
    three are there the last follows from C = 6 N D. Comma, semicolon, tab or bar separate; ``#`` lines
    before the headings are skipped. Counts may be written 1.5e9, 1_500_000_000, 1.5B, or 1,500,000,000
    (in quotes where the comma separates); a heading may carry a unit: "tokens (B)", "loss (bits per byte)".
    Non-embedding N is preferred to total N, validation loss to training loss.

    Parameters
    ----------
    source : path, or a text file object.
    columns : role -> heading, for headings that are not recognised or not the wanted ones, such as
        ``{"N": "n_params", "loss": "ln(perplexity)"}``. Roles: N, D, C, loss, unit, group, label.
    where : conditions on columns such as ``"experiment=c4"`` or ``"N>=1e8"``: only rows that meet them all are read.
    rows : what to do with rows that are not each a training of its own, such as a scan of learning rates or
        checkpoints: ``"ask"`` refuses them, ``"best"`` keeps the lowest loss at each N and D, ``"last"`` the last row
        of each run (by its name or group), ``"all"`` every row.
    max_rows : int. A longer file is refused once that many rows are read: a fit needs one row per run.

    Raises
    ------
    InputError : one line: the file, the row (1 is the first under the headings), the column, the remedy.
    """
    options = (columns or {}, where, rows, max_rows)
    if not isinstance(source, str | os.PathLike):
        return _read(source, show(str(getattr(source, "name", "table"))), *options)
    name = show(os.fspath(source))
    try:
        with open(source, encoding="utf-8-sig", newline="") as stream:
            return _read(stream, name, *options)
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError(f"{name}: not UTF-8 text; save the table as CSV in UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}); give the path of a CSV file") from None


def parse_table(text: str, **options: Any) -> RunTable:
    """Read a CSV of runs from a string; ``options`` as :func:`read_table` takes them."""
    return read_table(io.StringIO(text.removeprefix("\ufeff"), newline=""), **options)


def table_from_arrays(
    loss: Any,
    *,
    n_params: Any = None,
    n_tokens: Any = None,
    flops: Any = None,
    groups: Any = None,
    labels: Any = None,
    source: str = "table",
) -> RunTable:
    """Make a :class:`RunTable` from arrays of one length (n,), with the checks of :func:`read_table`."""
    numbers: dict[str, Floats] = {}
    for role, raw in {"loss": loss, "N": n_params, "D": n_tokens, "C": flops}.items():
        if raw is None:
            continue
        if np.ma.is_masked(raw):
            raise InputError(f"{source}: {role} has masked entries; drop those runs from every array")
        try:
            numbers[role] = np.asarray(raw, dtype=float)
        except (TypeError, ValueError):
            raise InputError(f"{source}: {role} must be numbers, one per run") from None
        if numbers[role].shape != (n := numbers["loss"].size,) or n == 0:
            raise InputError(f"{source}: {role} has shape {numbers[role].shape}; give one value per run, ({n or 'n'},)")
        for row, x in enumerate(numbers[role].tolist(), start=1):
            check(x, f"{x:g}", role, f"{source}: row {row}, column {role}")
    for what, given in (("groups", groups), ("labels", labels)):
        if given is not None and np.shape(given) != numbers["loss"].shape:
            raise InputError(f"{source}: {what} has shape {np.shape(given)}; give one per run")
    return make_table(numbers, {"group": groups, "label": labels}, source=source)


def _read(
    stream: Iterable[str], name: str, columns: Mapping[str, str], where: Sequence[str], keep: str, max_rows: int
) -> RunTable:
    """Read the headings, then every row; see :func:`read_table`."""
    lines = enumerate(stream, start=1)
    above, first = next(((i - 1, x) for i, x in lines if x.strip() and not x.startswith("#")), (0, ""))
    if not first:
        raise InputError(f"{name}: the file is empty; it needs a heading row such as N,D,loss and one row per run")
    body = itertools.chain([first], (line for _, line in lines))
    reader = csv.reader(body, delimiter=delimiter(first), strict=True, skipinitialspace=True)
    rows: list[list[str]] = []
    places: list[str] = []
    try:
        headings = [h.strip() for h in next(reader)]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            places.append(f"{name}: row {len(rows) + 1} (line {above + reader.line_num})")
            if len(rows) == max_rows:
                raise InputError(f"{places[-1]}: more than {max_rows:,} rows; keep one row per run, or raise max_rows")
            while len(cells) > len(headings) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(headings):
                hint = "put numbers with thousands separators in quotes" if len(cells) > len(headings) else "fill it up"
                raise InputError(f"{places[-1]} has {len(cells)} cells under {len(headings)} headings; {hint}")
            rows.append([cell.strip() for cell in cells])
    except csv.Error as error:
        raise InputError(
            f"{name}: line {above + reader.line_num} is not valid CSV ({error}); mend its quotes"
        ) from None
    if not rows:
        raise InputError(f"{name}: headings but no rows; add one row per run")
    roles = assign(headings, name, columns)
    by_role = {role: i for role, (i, _) in roles.items()}
    chosen = rows_where(headings, rows, by_role, where, name)
    rows, places = [rows[i] for i in chosen], [places[i] for i in chosen]
    numbers: dict[str, Floats] = {}
    units = {roles["loss"][1].unit: "the heading"} if roles["loss"][1].unit else {}  # unit -> where it was first seen
    for role, (i, heading) in roles.items():
        at = [f"{place}, column {show(headings[i])}" for place in places]
        if role in (*COUNTS, "loss"):
            found = [number(cells[i], role, a) for cells, a in zip(rows, at, strict=True)]
            values = [x * heading.multiple for x, _ in found]
            if heading.perplexity:
                check(min(values), f"{min(values):g}", "loss", f"{name}: the least perplexity")
                values = np.log(values).tolist()
            for x, cells, a in zip(values, rows, at, strict=True):
                check(x, show(cells[i]), role, a)
            if role == "loss" and role not in columns and max(values) > HIGHEST:
                _ask_whether_perplexity(headings[i], values, at)
            numbers[role] = np.array(values)
            told = [unit for _, unit in found]
        elif role == "unit":
            told = [_unit(cells[i], a) for cells, a in zip(rows, at, strict=True)]
        else:
            continue
        for row, (unit, a) in enumerate(zip(told, at, strict=True), start=1):
            if unit:
                units.setdefault(unit, f"row {row}")
            if len(units) > 1:
                mixed = " and ".join(f"{u} ({place})" for u, place in units.items())
                raise InputError(f"{a}: losses in {mixed}; losses of different units cannot be pooled")
    words: dict[str, list[str]] = {
        role: [cells[roles[role][0]] for cells in rows] for role in ("group", "label") if role in roles
    }
    used = {i for i, _ in roles.values()}
    unread = {h: [cells[i] for cells in rows] for i, h in enumerate(headings) if i not in used and h}
    table = make_table(
        numbers,
        words,
        loss_unit=next(iter(units), NATS),
        columns={role: headings[i] for role, (i, _) in roles.items()},
        ignored=tuple(unread),
        source=name,
    )
    counted = {h: texts for h, texts in unread.items() if recognise(h) is None}
    return one_training_per_row(table, counted, keep)


def _unit(cell: str, at: str) -> str:
    if plain(cell) not in LOSS_UNITS:
        raise InputError(f"{at}: unknown loss unit {show(cell)}; write nats or bits per byte")
    return LOSS_UNITS[plain(cell)]


def _ask_whether_perplexity(heading: str, values: list[float], at: list[str]) -> None:
    i = int(np.argmax(values))
    raise InputError(
        f"{at[i]} is {values[i]:g}: too much for nats per token. Of perplexities take the logarithm, --columns "
        f"'loss=ln({heading})'; if it is a loss, say so with --columns loss={heading}; a run that diverged is no run"
    )

"""Read a table of training runs (N, D or C, loss) from a CSV file that a person wrote.

Everything downstream trusts a :class:`RunTable`: finite, positive, in plain counts and in one loss unit.
What cannot be read with certainty is refused with one line that names the row and the column.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from scaling_lib.errors import InputError
from scaling_lib.fit._headings import COUNTS, LOSS_UNITS, NATS, assign, check, delimiter, number, plain, show

Floats = NDArray[np.float64]
MAX_ROWS = 200_000
_FIELDS = {"N": "n_params", "D": "n_tokens", "C": "flops", "loss": "loss"}


@dataclass(frozen=True)
class RunTable:
    """Runs as plain arrays of one length ``n``; every number is finite and positive.

    Attributes
    ----------
    loss : (n,) in ``loss_unit``.
    n_params, n_tokens, flops : (n,) counts, or None where the file does not tell.
    groups : (n,) str, runs that share a trunk, a seed or a budget; None where not given.
    labels : (n,) str, the runs' names; None where not given.
    loss_unit : ``"nats per token"`` or ``"bits per byte"``.
    columns : role -> the heading it was read from.
    derived : the roles that were worked out from the others by C = 6 N D.
    source : where the table came from, for messages.
    """

    loss: Floats
    n_params: Floats | None = None
    n_tokens: Floats | None = None
    flops: Floats | None = None
    groups: NDArray[np.str_] | None = None
    labels: NDArray[np.str_] | None = None
    loss_unit: str = NATS
    columns: Mapping[str, str] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    source: str = "table"

    def __len__(self) -> int:
        return int(self.loss.size)

    def get(self, role: str) -> Floats:
        """Return the array (n,) of role "N", "D", "C" or "loss"; raise InputError if the table has none."""
        value = getattr(self, _FIELDS[role]) if role in _FIELDS else None
        if value is None:
            has = ", ".join(k for k, name in _FIELDS.items() if getattr(self, name) is not None)
            raise InputError(f"{self.source}: no {role} column; the table gives {has}")
        return np.asarray(value, dtype=float)

    def select(self, keep: NDArray[np.bool_]) -> RunTable:
        """Return the rows where ``keep`` (n,) is true."""
        arrays = ("loss", "n_params", "n_tokens", "flops", "groups", "labels")
        return replace(self, **{a: v[keep] for a in arrays if (v := getattr(self, a)) is not None})


def read_table(
    source: str | os.PathLike[str] | TextIO,
    *,
    columns: Mapping[str, str] | None = None,
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
        ``{"N": "n_params", "loss": "train_loss"}``. Roles: N, D, C, loss, unit, group, label.
    max_rows : int. A longer file is refused once that many rows are read: a fit needs one row per run.

    Raises
    ------
    InputError : one line: the file, the row (1 is the first under the headings), the column, the remedy.
    """
    if not isinstance(source, str | os.PathLike):
        return _read(source, show(str(getattr(source, "name", "table"))), columns or {}, max_rows)
    name = show(os.fspath(source))
    try:
        with open(source, encoding="utf-8-sig", newline="") as stream:
            return _read(stream, name, columns or {}, max_rows)
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError(f"{name}: not UTF-8 text; save the table as CSV in UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}); give the path of a CSV file") from None


def parse_table(text: str, *, columns: Mapping[str, str] | None = None, max_rows: int = MAX_ROWS) -> RunTable:
    """Read a CSV of runs from a string; see :func:`read_table`."""
    return _read(io.StringIO(text.removeprefix("\ufeff"), newline=""), "table", columns or {}, max_rows)


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
        try:
            numbers[role] = np.asarray(raw, dtype=float)
        except (TypeError, ValueError):
            raise InputError(f"{source}: {role} must be numbers, one per run") from None
        if numbers[role].shape != (n := numbers["loss"].size,):
            raise InputError(f"{source}: {role} has shape {numbers[role].shape}; give one value per run, ({n},)")
        for row, x in enumerate(numbers[role].tolist(), start=1):
            check(x, f"{x:g}", role, f"{source}: row {row}, column {role}")
    texts: dict[str, NDArray[np.str_] | None] = {}
    for what, given in (("groups", groups), ("labels", labels)):
        texts[what] = None if given is None else np.asarray(given, dtype=str)
        if given is not None and np.shape(given) != numbers["loss"].shape:
            raise InputError(f"{source}: {what} has shape {np.shape(given)}; give one per run")
    return _derive(
        RunTable(
            loss=numbers["loss"],
            n_params=numbers.get("N"),
            n_tokens=numbers.get("D"),
            flops=numbers.get("C"),
            groups=texts["groups"],
            labels=texts["labels"],
            source=source,
        )
    )


class _Lines:
    """The lines of a stream, counted, so that an error can name one."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._lines = iter(stream)
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        return line


def _read(stream: Iterable[str], name: str, columns: Mapping[str, str], max_rows: int) -> RunTable:
    """Read the headings, then every row; see :func:`read_table`."""
    lines = _Lines(stream)
    try:
        first = next((line for line in lines if line.strip() and not line.startswith("#")), None)
        if first is None:
            raise InputError(f"{name}: the file is empty; it needs a heading row such as N,D,loss and one row per run")
        mark = delimiter(first)
        rows = csv.reader(itertools.chain([first], lines), delimiter=mark, strict=True, skipinitialspace=True)
        return _rows(rows, next(rows), lines, name, columns, max_rows)
    except csv.Error as error:
        raise InputError(f"{name}: line {lines.count} is not valid CSV ({error}); mend its quotes") from None


def _rows(
    rows: Iterator[list[str]],
    headings: list[str],
    lines: _Lines,
    name: str,
    columns: Mapping[str, str],
    max_rows: int,
) -> RunTable:
    """Read the data rows under ``headings`` into arrays, each cell checked."""
    roles = assign(headings, name, columns)
    numbers: dict[str, list[float]] = {role: [] for role in (*COUNTS, "loss") if role in roles}
    texts: dict[str, list[str]] = {role: [] for role in ("group", "label") if role in roles}
    loss_unit = roles["loss"][1].unit
    units: dict[str, str] = {loss_unit: "the heading"} if loss_unit else {}  # unit -> where it was first seen
    row = 0
    for cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        row += 1
        where = f"{name}: row {row} (line {lines.count})"
        if row > max_rows:
            raise InputError(f"{where}: more than {max_rows:,} rows; keep one row per run, or raise max_rows")
        while len(cells) > len(headings) and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(headings):
            hint = "put numbers with thousands separators in quotes" if len(cells) > len(headings) else "fill it up"
            raise InputError(f"{where} has {len(cells)} cells under {len(headings)} headings; {hint}")
        for role, (index, heading) in roles.items():
            cell, at = cells[index].strip(), f"{where}, column {show(headings[index].strip())}"
            unit = ""
            if role in numbers:
                value, unit = number(cell, role, at)
                numbers[role].append(check(value * heading.multiple, show(cell), role, at))
            elif role == "unit":
                if plain(cell) not in LOSS_UNITS:
                    raise InputError(f"{at}: unknown loss unit {show(cell)}; write nats or bits per byte")
                unit = LOSS_UNITS[plain(cell)]
            else:
                texts[role].append(cell)
            if unit:
                units.setdefault(unit, f"row {row}")
            if len(units) > 1:
                mixed = " and ".join(f"{u} ({place})" for u, place in units.items())
                raise InputError(f"{at}: losses in {mixed}; losses of different units cannot be pooled")
    if not row:
        raise InputError(f"{name}: headings but no rows; add one row per run")
    arrays = {role: np.array(values, dtype=float) for role, values in numbers.items()}
    words = {role: np.array(values, dtype=str) for role, values in texts.items()}
    return _derive(
        RunTable(
            loss=arrays["loss"],
            n_params=arrays.get("N"),
            n_tokens=arrays.get("D"),
            flops=arrays.get("C"),
            groups=words.get("group"),
            labels=words.get("label"),
            loss_unit=next(iter(units), NATS),
            columns={role: headings[index].strip() for role, (index, _) in roles.items()},
            source=name,
        )
    )


def _derive(table: RunTable) -> RunTable:
    """Fill the one of N, D, C that follows from the other two by C = 6 N D."""
    n, d, c = table.n_params, table.n_tokens, table.flops
    if n is not None and d is not None and c is None:
        role, value = "C", 6.0 * n * d
    elif n is not None and c is not None and d is None:
        role, value = "D", c / (6.0 * n)
    elif d is not None and c is not None and n is None:
        role, value = "N", c / (6.0 * d)
    else:
        return table
    for row, x in enumerate(value.tolist(), start=1):
        check(x, f"{x:g}", role, f"{table.source}: row {row}, {role} from C = 6 N D")
    filled = {"n_params": n, "n_tokens": d, "flops": c} | {_FIELDS[role]: value}
    return replace(
        table,
        n_params=filled["n_params"],
        n_tokens=filled["n_tokens"],
        flops=filled["flops"],
        derived=(role,),
    )

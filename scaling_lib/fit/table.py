"""Read a table of training runs (N, D or C, loss) from a CSV file that a person wrote, or make one from arrays.

Everything downstream trusts a :class:`RunTable`: finite, positive, in plain counts and in one loss unit, and of one
experiment. What cannot be read with certainty is refused with one line that names the line, the column and the remedy.
"""

import codecs
import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check, headings, rows
from scaling_lib.fit.headings import COUNTS, LOSS_UNITS, NATS, RANGES, option, plain, recognise, show
from scaling_lib.fit.rows import FIELDS, KEEP, Floats, RunTable
from scaling_lib.words import printable

__all__ = ["RunTable", "parse_table", "read_table", "table_from_arrays"]
MAX_ROWS = 200_000
MAX_BYTES = 100_000_000  # of a file: 500 a row
HIGHEST = 13.0  # nats per token: to know nothing costs ln(vocabulary), which is at most 12.5
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


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
    """Make a :class:`RunTable` from arrays of one length (n,), finite and above 0; raises InputError for others."""
    given = {"loss": loss, "N": n_params, "D": n_tokens, "C": flops}
    given = {role: values for role, values in given.items() if values is not None}
    numbers = check.columns(list(given), list(given.values()))
    words = {what: texts for what, texts in (("groups", groups), ("labels", labels)) if texts is not None}
    for what, texts in words.items():
        if np.shape(texts) != numbers["loss"].shape:
            raise InputError(f"{source}: {what} has shape {np.shape(texts)}; give one per run")
    return _table(numbers, words, source)


def _table(numbers: Mapping[str, Floats], words: Mapping[str, Any], source: str, **about: Any) -> RunTable:
    """The table of checked numbers by role and of texts by field, with the third of N, D and C."""
    every = {"loss": numbers["loss"], **rows.completed({r: numbers[r] for r in COUNTS if r in numbers})}
    derived = tuple(r for r in every if r not in numbers)
    for role in derived:
        places = [f"{source}: row {i + 1}, {role} from C = 6 N D" for i in range(len(every[role]))]
        check.positive(role, every[role], *RANGES[role], places)
    if (ratio := rows.contradiction(every)).size and not derived:
        i = int(np.argmax(np.abs(np.log(ratio))))
        note = (
            f"C contradicts 6 N D, {ratio.min():.3g} to {ratio.max():.3g} times it: row {i + 1} has C = "
            f"{every['C'][i]:.4g} where 6 N D = {every['C'][i] / ratio[i]:.4g}"
        )
        about["notes"] = (*about.get("notes", ()), note)
    arrays: dict[str, Any] = {FIELDS[r]: values for r, values in every.items()}
    arrays |= {field: np.asarray(text, dtype=str) for field, text in words.items()}
    return RunTable(**arrays, derived=derived, source=source, **about)


# ---- a CSV file ------------------------------------------------------------------


def read_table(
    source: str | os.PathLike[str] | TextIO,
    *,
    columns: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    rows: str = "ask",
    max_rows: int = MAX_ROWS,
) -> RunTable:
    """Read a CSV of runs from a path or an open text file, in UTF-8, or UTF-16 with its mark.

    The first row holds the headings. Needed are a loss and at least one of N, D, C; where two of the
    three are there the last follows from C = 6 N D. Comma, semicolon, tab, bar or blanks separate; ``#`` lines
    before the headings are skipped, but one that holds the headings. Counts may be written 1.5e9, 1_500_000_000,
    1.5B, or 1,500,000,000 (in quotes where the comma separates); where the losses have decimal commas, all numbers
    do. A heading may carry a unit: "tokens (B)", "loss (bits per byte)". Non-embedding N is preferred to total N,
    validation loss to training loss.

    Parameters
    ----------
    columns : role -> heading, for headings that are not recognised or not the wanted ones, such as
        ``{"N": "n_params", "loss": "ln(perplexity)"}``. Roles: N, D, C, loss, unit, group, label.
    where : conditions on columns such as ``"experiment=c4"`` or ``"N>=1e8"``: only rows that meet them all are read.
    rows : what to do with rows that are not each a training of its own, such as a scan of learning rates or
        checkpoints: ``"ask"`` refuses them, ``"best"`` keeps the lowest loss at each N and D, ``"last"`` the last row
        of each run (by its name or group), ``"all"`` every row.
    max_rows : int. A longer file is refused once that many rows are read: a fit needs one row per run.

    Raises
    ------
    InputError : one line: the file, the line, the column, the remedy.
    """
    options = (columns or {}, where, rows, max_rows)
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, Iterable) or isinstance(source, bytes | io.RawIOBase | io.BufferedIOBase):
            raise InputError(f"read_table takes a path or a file opened as text, not {type(source).__name__}")
        return _read(source, printable(str(getattr(source, "name", "table"))), *options)
    name = printable(os.fsdecode(source))
    try:
        with open(source, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}); give the path of a CSV file") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: more than {MAX_BYTES // 10**6} MB; a table of runs has one row per run")
    code = next((code for mark, code in _MARKS.items() if content.startswith(mark)), "utf-8")
    if code != "utf-16" and re.search(rb"[\0-\x08]", content[:1000]):
        raise InputError(f"{name}: a binary file, or UTF-16 without its mark; save the table as CSV in UTF-8")
    try:
        text = content.decode(code)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: not UTF-8 text (byte {error.start}); save the table as CSV in UTF-8, or convert it: iconv -f "
            "LATIN1 -t UTF-8 old.csv > new.csv (or -f GBK, or whatever it is in)"
        ) from None
    return _read(io.StringIO(text, newline=""), name, *options)


def parse_table(text: str, **options: Any) -> RunTable:
    """Read a CSV of runs from a string; ``options`` as :func:`read_table` takes them."""
    return read_table(io.StringIO(text.removeprefix("\ufeff"), newline=""), **options)


def _read(
    stream: Iterable[str], name: str, columns: Mapping[str, str], where: Sequence[str], keep: str, max_rows: int
) -> RunTable:
    check.choice("rows", keep, KEEP)
    if not isinstance(columns, Mapping) or not all(isinstance(heading, str) for heading in columns.values()):
        raise InputError(f"columns={columns!r}: write it as roles and headings, such as {{'N': 'params'}}")
    titles, found, lines = _cells_of(stream, name, max_rows)
    roles = headings.assign(titles, name, columns)
    places = {role: i for role, (i, _) in roles.items()}
    pointed = headings.decimal_points(found, places["loss"], roles["loss"][1].perplexity)
    chosen = rows.rows_where(titles, pointed or found, places, where, name)
    texts = [[(pointed or found)[j][i] for j in chosen] for i in range(len(titles))]
    numbers: dict[str, Floats] = {}
    units = {roles["loss"][1].unit: "the heading"} if roles["loss"][1].unit else {}  # unit -> where it was first seen
    for role, (i, heading) in roles.items():
        at = [f"{name}: line {lines[j]}, column {show(titles[i])}" for j in chosen]
        told: list[str] = []
        if role in (*COUNTS, "loss"):
            pairs = headings.read_numbers(texts[i], role, at, sure=heading.multiple != 1)
            values, told = heading.multiple * np.array([value for value, _ in pairs]), [unit for _, unit in pairs]
            if heading.perplexity:
                values = np.log(check.positive(role, values, *RANGES[role], at))
            numbers[role] = check.positive(role, values, *RANGES[role], at)
            if role == "loss" and role not in columns and values.max() > HIGHEST:
                raise InputError(
                    f"{at[int(values.argmax())]} is {values.max():g}: too much for nats per token. Of perplexities "
                    f"take the logarithm, {option('loss', f'ln({titles[i]})')}; if it is a loss, say so with "
                    f"{option('loss', titles[i])}; a run that diverged is no run"
                )
        elif role == "unit":
            told = [LOSS_UNITS.get(plain(cell), "?") for cell in texts[i]]
            if "?" in told:
                j = told.index("?")
                raise InputError(f"{at[j]}: unknown loss unit {show(texts[i][j])}; write nats or bits per byte")
        for unit, place in zip(told, at, strict=False):
            if unit:
                units.setdefault(unit, place)
        if len(units) > 1:
            mixed = " and ".join(f"{u} ({place.removeprefix(f'{name}: ')})" for u, place in units.items())
            raise InputError(f"{name}: losses in {mixed}; losses of different units cannot be pooled")
    unread = {h: texts[i] for i, h in enumerate(titles) if i not in places.values() and h}
    table = _table(
        numbers,
        {f"{role}s": texts[places[role]] for role in ("group", "label") if role in places},
        name,
        loss_unit=next(iter(units), NATS),
        columns={role: titles[i] for role, i in places.items()},
        ignored=tuple(unread),
        notes=("the decimals stand behind commas",) if pointed else (),
    )
    return rows.one_training_per_row(table, {h: v for h, v in unread.items() if recognise(h) is None}, keep)


def _cells_of(stream: Iterable[str], name: str, max_rows: int) -> tuple[list[str], list[list[str]], list[int]]:
    """The headings, the cells of every row, and the line of the file on which each row ends."""
    above: list[str] = []
    lines = iter(stream)
    for head in lines:
        if head.strip() and not head.startswith("#"):
            break
        above.append(head)
    else:
        raise InputError(f"{name}: the file is empty; it needs a heading row such as N,D,loss and one row per run")
    if re.fullmatch("sep=.", head.strip()):  # spreadsheets write and read it
        above.append("")
        head = next(lines, "")
    if head.lstrip().startswith(("{", "[{")) or head.strip() == "[":
        raise InputError(f"{name}: JSON; a table has a heading row such as N,D,loss and one row per run")
    comments = [line.lstrip("# ") for line in above if line.startswith("#")]
    own = [line for line in comments if _are_headings(line, head)][-1:]  # the headings stand behind a #
    skipped = len(above) - len(own)
    mark = _separator([*own, head][0])
    rest: Iterable[str] = itertools.chain(own, [head], lines)
    reader = csv.reader(
        map(str.strip, rest) if mark == " " else rest, delimiter=mark, strict=True, skipinitialspace=True
    )
    found: list[list[str]] = []
    places: list[int] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cell.strip("-=:+") for cell in cells):  # blank, or the rule below the headings
                continue
            at, width = f"{name}: line {skipped + reader.line_num}", len(found[0]) if found else len(cells)
            if len(found) > max_rows:
                raise InputError(f"{at}: more than {max_rows:,} rows; keep one row per run, or raise max_rows")
            while len(cells) > width and not cells[-1]:
                cells.pop()
            if len(cells) != width:
                hint = "fill it up"
                if len(cells) > width:
                    hint = f"the last is {show(cells[-1])}; put numbers with thousands separators in quotes"
                raise InputError(f"{at} has {len(cells)} cells under {width} headings; {hint}")
            found.append(cells)
            places.append(skipped + reader.line_num)
    except csv.Error as error:
        line = skipped + reader.line_num
        raise InputError(f"{name}: line {line} is not valid CSV ({error}); mend its quotes") from None
    if len(found) < 2:
        raise InputError(f"{name}: headings but no rows; add one row per run")
    return found[0], found[1:], places[1:]


def _separator(line: str) -> str:
    """What stands between the cells of a line; a blank where nothing else does."""
    return max(",;\t|", key=line.count) if any(mark in line for mark in ",;\t|") else " "


def _are_headings(line: str, row: str) -> bool:
    """Whether a comment holds known headings for the cells of ``row``, which are none."""
    mark = _separator(line)
    first, second = (text.split(None if mark == " " else mark) for text in (line, row))
    return 1 < len(first) == len(second) and any(map(recognise, first)) and not any(map(recognise, second))

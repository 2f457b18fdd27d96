"""Read a table of training runs (N, D or C, loss) from a CSV file that a person wrote.

Everything downstream trusts a :class:`RunTable`: finite, positive, in plain counts and in one loss unit. What cannot be
read with certainty is refused with one line that names the line, the column and the remedy.

Runs that differ in a dataset or a tokenizer follow different laws. Runs of one size and length that differ in their
learning rate are no seeds, and checkpoints of one training share its noise. A fit of all of them looks like any other,
so a person has to say what is meant.
"""

from __future__ import annotations

import csv
import io
import itertools
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from scaling_lib.errors import InputError
from scaling_lib.fit.check import columns as checked
from scaling_lib.fit.headings import COUNTS, LOSS_UNITS, NATS, assign, check, number, plain, recognise, show

Floats = NDArray[np.float64]
V = TypeVar("V", float, Floats)
MAX_ROWS = 200_000
HIGHEST = 20.0  # nats per token: to know nothing costs ln(vocabulary), which is at most 12.5
KEEP = ("ask", "best", "last", "all")
SEED_NOISE = 0.05  # seeds of the smallest models scatter by up to 4%
OTHER_COUNT = 0.005  # runs of one N, say, with losses that differ by more because their D differs
# Headings (as `plain` writes them) under which a second value means a second experiment.
_EXPERIMENTS = re.compile(
    r"(data|dataset|corpus|experiment|study|tokenizer|vocab|vocabulary|recipe|schedule|optimi[sz]er|family|setup"
    r"|seq len|sequence length|context length)( name| id| size)?"
)
_SEEDS = re.compile(r"\b(seed|seeds|trial|replicate|replica|repeat|rep)\b")
# What runs of one size and length were made to differ in, and what merely came out of them.
_SETTINGS = re.compile(r"\b(lr|rate|batch|bs|bsz|decay|wd|warmup|beta\d?|dropout|step|steps|epochs?|iter|checkpoint)\b")
_RESULTS = re.compile(r"loss|ppl|perplex|\bacc|time|second|hour|date|hash|sha|path|url|\bid\b|index|host|gpu|mfu|per ")
_CONDITION = re.compile(r"\s*(.+?)\s*(>=|<=|!=|==|=|>|<)\s*(.+?)\s*")
_AMOUNT = re.compile(r"[0-9.,eE+_-]+[kKmMbBtT]?")
ORDER = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_FIELDS = {"N": "n_params", "D": "n_tokens", "C": "flops", "loss": "loss"}


@dataclass(frozen=True)
class RunTable:
    """Runs as plain arrays of one length ``n``; every number is finite and positive.

    Attributes
    ----------
    loss : (n,) in ``loss_unit``.
    n_params, n_tokens, flops : (n,) counts, or None where the file does not tell.
    groups : (n,) str, runs that share a trunk, a seed or a budget; None where not given, or the same in every row.
    labels : (n,) str, the runs' names; None where not given.
    loss_unit : ``"nats per token"`` or ``"bits per byte"``.
    columns : role -> the heading it was read from.
    derived : the roles that were worked out from the others by C = 6 N D.
    ignored : the headings that were not read.
    notes : what was decided while reading, in words: rows left out, seeds, a group that is the same in every row.
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
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = "table"

    def __post_init__(self) -> None:
        """A group that is the same in every row says nothing about the spread between groups: it is dropped."""
        if self.groups is not None and np.unique(self.groups).size == 1:
            note = f"the group is {show(str(self.groups[0]))} in every row and is not used"
            object.__setattr__(self, "groups", None)
            object.__setattr__(self, "notes", (*self.notes, note))

    def __len__(self) -> int:
        return int(self.loss.size)

    def get(self, role: str) -> Floats:
        """Return the array (n,) of role "N", "D", "C" or "loss"; raise InputError if the table has none."""
        value = getattr(self, _FIELDS[role]) if role in _FIELDS else None
        if value is None:
            has = ", ".join(k for k, name in _FIELDS.items() if getattr(self, name) is not None)
            left = f" (columns not read: {', '.join(map(show, self.ignored))})" if self.ignored else ""
            raise InputError(f"{self.source}: no {role} column; the table gives {has}{left}")
        return np.asarray(value, dtype=float)

    def select(self, keep: NDArray[np.bool_]) -> RunTable:
        """Return the rows where ``keep`` (n,) is true."""
        arrays = (*_FIELDS.values(), "groups", "labels")
        return replace(self, **{a: v[keep] for a in arrays if (v := getattr(self, a)) is not None})

    def cells(self, roles: Sequence[str], digits: float = 1e-9) -> NDArray[np.intp]:
        """Return the number (n,) of each row's cell: rows of the same counts in ``roles``, so far as these are known.

        ``digits`` : logarithms that round to one multiple of it are the same.
        """
        logs = [np.round(np.log(v) / digits) for r in roles if (v := getattr(self, _FIELDS[r])) is not None]
        return np.unique(np.stack(logs, axis=1), axis=0, return_inverse=True)[1].ravel()


def completed(at: Mapping[str, V]) -> dict[str, V]:
    """Return N, D and C where two of them are given, by C = 6 N D; else what is given."""
    out = dict(at)
    if len(at) == 2:
        (third,) = set(COUNTS) - set(at)
        out[third] = 6 * at["N"] * at["D"] if third == "C" else at["C"] / (6 * at["N" if third == "D" else "D"])
    return {role: out[role] for role in COUNTS if role in out}


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
    numbers = checked(list(given), list(given.values()))
    words = {"groups": groups, "labels": labels}
    for what, texts in words.items():
        if texts is not None and np.shape(texts) != numbers["loss"].shape:
            raise InputError(f"{source}: {what} has shape {np.shape(texts)}; give one per run")
    return _table(numbers, words, source)


def _table(numbers: Mapping[str, Floats], words: Mapping[str, Any], source: str, **about: Any) -> RunTable:
    """The table of checked numbers by role and of texts by field, with the third of N, D and C."""
    every = {"loss": numbers["loss"], **completed({r: numbers[r] for r in COUNTS if r in numbers})}
    derived = tuple(r for r in every if r not in numbers)
    for role in derived:
        check(every[role], role, lambda i, role=role: f"{source}: row {i + 1}, {role} from C = 6 N D")  # type: ignore[misc]
    texts = {field: np.asarray(text, dtype=str) for field, text in words.items() if text is not None}
    arrays: dict[str, Any] = {_FIELDS[r]: values for r, values in every.items()} | texts
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
    InputError : one line: the file, the line, the column, the remedy.
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


def _read(
    stream: Iterable[str], name: str, columns: Mapping[str, str], where: Sequence[str], keep: str, max_rows: int
) -> RunTable:
    if keep not in KEEP:
        raise InputError(f"rows={keep!r} is unknown: choose one of {', '.join(KEEP)}")
    headings, rows, lines = _cells_of(stream, name, max_rows)
    roles = assign(headings, name, columns)
    places = {role: i for role, (i, _) in roles.items()}
    chosen = _rows_where(headings, rows, places, where, name)
    texts = {i: [rows[j][i] for j in chosen] for i in range(len(headings))}
    numbers: dict[str, Floats] = {}
    units = {roles["loss"][1].unit: "the heading"} if roles["loss"][1].unit else {}  # unit -> where it was first seen
    for role, (i, heading) in roles.items():
        at = [f"{name}: line {lines[j]}, column {show(headings[i])}" for j in chosen]
        told: list[str] = []
        if role in (*COUNTS, "loss"):
            pairs = [number(cell, role, a) for cell, a in zip(texts[i], at, strict=True)]
            found, told = heading.multiple * np.array([value for value, _ in pairs]), [unit for _, unit in pairs]
            if heading.perplexity:
                found = np.log(check(found, "loss", at.__getitem__))
            numbers[role] = check(found, role, at.__getitem__)
            if role == "loss" and role not in columns and found.max() > HIGHEST:
                raise InputError(
                    f"{at[int(found.argmax())]} is {found.max():g}: too much for nats per token. Of perplexities "
                    f"take the logarithm, --columns 'loss=ln({headings[i]})'; if it is a loss, say so with "
                    f"--columns loss={headings[i]}; a run that diverged is no run"
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
    unread = {h: texts[i] for i, h in enumerate(headings) if i not in places.values() and h}
    table = _table(
        numbers,
        {f"{role}s": texts[places[role]] for role in ("group", "label") if role in places},
        name,
        loss_unit=next(iter(units), NATS),
        columns={role: headings[i] for role, i in places.items()},
        ignored=tuple(unread),
    )
    return _one_training_per_row(table, {h: v for h, v in unread.items() if recognise(h) is None}, keep)


def _cells_of(stream: Iterable[str], name: str, max_rows: int) -> tuple[list[str], list[list[str]], list[int]]:
    """The headings, the cells of every row, and the line of the file on which each row ends."""
    above, lines = [], iter(stream)
    for head in lines:
        if head.strip() and not head.startswith("#"):
            break
        above.append("\n")  # csv passes over it, and counts it
    else:
        raise InputError(f"{name}: the file is empty; it needs a heading row such as N,D,loss and one row per run")
    reader = csv.reader(
        itertools.chain(above, [head], lines), delimiter=max(",;\t|", key=head.count), strict=True,
        skipinitialspace=True,
    )  # fmt: skip
    found: list[list[str]] = []
    places: list[int] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            at = f"{name}: line {reader.line_num}"
            if len(found) > max_rows:
                raise InputError(f"{at}: more than {max_rows:,} rows; keep one row per run, or raise max_rows")
            while found and len(cells) > len(found[0]) and not cells[-1]:
                cells.pop()
            if found and len(cells) != len(found[0]):
                hint = "put numbers with thousands separators in quotes" if len(cells) > len(found[0]) else "fill it up"
                raise InputError(f"{at} has {len(cells)} cells under {len(found[0])} headings; {hint}")
            found.append(cells)
            places.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{name}: line {reader.line_num} is not valid CSV ({error}); mend its quotes") from None
    if len(found) < 2:
        raise InputError(f"{name}: headings but no rows; add one row per run")
    return found[0], found[1:], places[1:]


# ---- which rows belong together --------------------------------------------------


def _rows_where(
    headings: Sequence[str], rows: Sequence[Sequence[str]], roles: Mapping[str, int], where: Sequence[str], source: str
) -> list[int]:
    """The places of the rows that meet every condition; refuses what is left if it is of several experiments."""
    chosen = list(range(len(rows)))
    for text in [where] if isinstance(where, str) else where:
        name, sign, wanted = condition(text)
        index = next((i for i, h in enumerate(headings) if h.lower() == name.lower()), roles.get(name, -1))
        if index < 0:
            has = ", ".join(show(h) for h in headings[:12])
            raise InputError(f"{source}: where names the column {show(name)}; the table has {has}")
        chosen = [i for i in chosen if _meets(rows[i][index], sign, wanted, f"{source}: {show(text)}")]
        if not chosen:
            values = ", ".join(dict.fromkeys(show(row[index]) for row in rows[:500]))
            raise InputError(f"{source}: no row is left by {show(text)}; {show(headings[index])} holds {values[:200]}")
    for i, heading in enumerate(headings):
        found = list(dict.fromkeys(rows[j][i] for j in chosen))
        if len(found) < 2 or i in roles.values() or not _EXPERIMENTS.fullmatch(plain(heading)):
            continue
        if plain(heading).startswith("data") and all(_AMOUNT.fullmatch(v) for v in found):
            continue  # an amount of data
        some = ", ".join(show(v) for v in found[:6]) + (" ..." if len(found) > 6 else "")
        raise InputError(
            f"{source}: several experiments in one table, {show(heading)} is {some}: pick one with "
            f"--where {show(heading + '=' + found[0])} (where= in Python), or remove the column to pool them"
        )
    return chosen


def condition(text: str) -> tuple[str, str, str]:
    """Return (name, sign, value) of a condition such as "N>=1e8"; raise InputError for what is none."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise InputError(f"{show(text)} is no condition: write one such as N>=1e8 or experiment=c4")
    return match[1], match[2], match[3]


def _meets(cell: str, sign: str, wanted: str, at: str) -> bool:
    if sign in ORDER:
        return bool(ORDER[sign](number(cell, "N", at)[0], number(wanted, "N", at)[0]))
    same = cell.lower() == wanted.lower()
    if not same:
        try:
            same = number(cell, "N", at)[0] == number(wanted, "N", at)[0]
        except InputError:  # words, and other ones
            same = False
    return same != (sign == "!=")


def _one_training_per_row(table: RunTable, unread: Mapping[str, Sequence[str]], keep: str) -> RunTable:
    """The rows that ``keep`` names (see `read_table`); ``unread`` holds the columns that play no role."""
    cell = table.cells(COUNTS)
    names, what = (table.groups, "group") if table.groups is not None else (table.labels, "label")
    if keep == "all":
        return table
    if keep == "best":
        return _first(table, cell, table.loss, "the lowest loss at each N and D")
    if keep == "last":
        if names is None:
            raise InputError(f"{table.source}: rows 'last' needs the runs' names; name them: --columns label=...")
        length = next(v for v in (table.n_tokens, table.flops, table.n_params) if v is not None)
        return _first(table, names, -length, "the last row of each run")
    several = int(np.sum(np.bincount(cell) > 1))
    at = ", ".join(r for r in COUNTS if getattr(table, _FIELDS[r]) is not None and r not in table.derived)
    found = [h for h, texts in unread.items() if several and _is_setting(h, np.asarray(texts, dtype=str), cell)]
    if found:
        raise InputError(
            f"{table.source}: {several} values of {at} stand in several rows that differ in "
            f"{', '.join(show(h) for h in found[:4])}: settings that were tried, not seeds; --rows best takes the "
            f"lowest loss of each, --where '{found[0]}=...' one setting, --rows all every row; if it holds a count, "
            f"--columns N={found[0]}"
        )
    if what == "label" and names is not None and (most := _checkpoints(table, names)):
        heading = table.columns["label"]
        raise InputError(
            f"{table.source}: {np.unique(names).size} names in column {show(heading)} have up to {most} rows each: if "
            f"they are checkpoints of one training, --rows last takes the last of each and --columns group={heading} "
            "lets rows of one name share their noise; if each row is a training of its own, --rows all"
        )
    note = f"{several} values of {at} stand in several rows, which are taken as seeds"
    return replace(table, notes=(*table.notes, note)) if several else table


def _first(table: RunTable, key: NDArray[Any], order: Floats, what: str) -> RunTable:
    """Of the rows of each key the one that is least in ``order``."""
    ranked = np.lexsort((order, key))
    keep = np.zeros(len(table), dtype=bool)
    keep[ranked[np.unique(key[ranked], return_index=True)[1]]] = True
    left = table.select(keep)
    return replace(left, notes=(*left.notes, f"of {len(table)} rows {len(left)} are kept, {what}"))


def _is_setting(heading: str, texts: NDArray[np.str_], cell: NDArray[np.intp]) -> bool:
    """Whether a column holds what runs of one cell were made to differ in: not a seed, and not a result."""
    words, values = plain(heading), np.unique(texts, return_inverse=True)[1]
    pairs = np.unique(np.stack([cell, values], axis=1), axis=0)
    if len(pairs) == np.unique(cell).size or _SEEDS.search(words):  # one value in each cell, or seeds
        return False
    few = values.max() < max(2, len(texts) // 2)
    return bool(_SETTINGS.search(words)) or (few and not _RESULTS.search(words + " "))


def _checkpoints(table: RunTable, names: NDArray[np.str_]) -> int:
    """The most rows under one name, where names repeat with one N each and several lengths; else 0."""
    which = np.unique(names, return_inverse=True)[1]
    count = which.max() + 1
    most = int(np.bincount(which).max())
    if len(names) < 2 * count or most < 2:
        return 0
    known = table.n_params is not None
    size, length = table.cells(("N",)) if known else which, table.cells(("D", "C") if known else COUNTS)
    sizes, lengths = (len(np.unique(np.stack([which, v], axis=1), axis=0)) for v in (size, length))
    return most if sizes == count < lengths else 0


def check_variables(table: RunTable, variables: Sequence[str]) -> None:
    """Refuse a law in ``variables`` where runs that are one to it have losses that differ by more than their noise.

    Such a law leaves out what makes them differ: N in a fit of L(D), for example.
    """
    if len(variables) != 1 or table.groups is not None:
        return
    (name,) = variables
    x, y, cell = table.get(name), np.log(table.loss), table.cells(variables, 0.02)
    count = np.bincount(cell)
    rest = y - (np.bincount(cell, y) / count)[cell]
    spare = len(y) - len(count)
    others = [
        role
        for role in ("N", "D")
        if role != name
        and getattr(table, _FIELDS[role]) is not None
        and len(np.unique(table.cells((name, role), 0.02))) > len(count)
    ]
    if spare < 1 or np.sqrt(np.sum(rest**2) / spare) <= (OTHER_COUNT if others else SEED_NOISE):
        return
    worst = int(np.argmax(np.bincount(cell, np.abs(rest))))
    losses = table.loss[cell == worst]
    unread = f" (columns not read: {', '.join(map(show, table.ignored))})" if table.ignored else ""
    why = f"name what else differs with --columns{unread}"
    if others:
        why = f"{' and '.join(others)} differs in them: fit L(N, D), or keep one value with --where"
    raise InputError(
        f"{table.source}: a law of {name} alone cannot follow this table: at {name} = {x[cell == worst][0]:.4g} there "
        f"are {len(losses)} losses from {losses.min():.4g} to {losses.max():.4g}; {why}"
    )

"""Runs as plain arrays, and which rows may be fitted together: those of one experiment, each its own training.

Runs that differ in a dataset or a tokenizer follow different laws. Runs of one size and length that differ in their
learning rate are no seeds, and checkpoints of one training share its noise. A fit of all of them looks like any other,
so a person has to say what is meant.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling_lib.errors import InputError
from scaling_lib.fit._headings import COUNTS, NATS, check, number, plain, show

Floats = NDArray[np.float64]

KEEP = ("ask", "best", "last", "all")
# Headings (as `plain` writes them) under which a second value means a second experiment.
EXPERIMENTS = re.compile(
    r"(data|dataset|corpus|experiment|study|tokenizer|vocab|vocabulary|recipe|schedule|optimi[sz]er|family|setup"
    r"|seq len|sequence length|context length)( name| id| size)?"
)
SEEDS = re.compile(r"\b(seed|seeds|trial|replicate|replica|repeat|rep)\b")
# What runs of one size and length were made to differ in, and what merely came out of them.
SETTINGS = re.compile(r"\b(lr|rate|batch|bs|bsz|decay|wd|warmup|beta\d?|dropout|step|steps|epochs?|iter|checkpoint)\b")
RESULTS = re.compile(r"loss|ppl|perplex|\bacc|time|second|hour|date|hash|sha|path|url|\bid\b|index|host|gpu|mfu|per ")
SEED_NOISE = 0.05  # seeds of the smallest models scatter by up to 4%
OTHER_COUNT = 0.005  # runs of one N, say, with losses that differ by more because their D differs
_CONDITION = re.compile(r"\s*(.+?)\s*(>=|<=|!=|==|=|>|<)\s*(.+?)\s*")
_NUMERIC = re.compile(r"[0-9.,eE+_-]+[kKmMbBtT]?")
_ORDER = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
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
        """Return the rows where ``keep`` (n,) is true, without groups where they are all of one group."""
        arrays = ("loss", "n_params", "n_tokens", "flops", "groups", "labels")
        return _without_lone_group(replace(self, **{a: v[keep] for a in arrays if (v := getattr(self, a)) is not None}))


def make_table(numbers: Mapping[str, Floats], words: Mapping[str, Any], **about: Any) -> RunTable:
    """The table of checked numbers by role, and of N, D, C the one that follows by C = 6 N D."""
    n, d, c = (numbers.get(role) for role in COUNTS)
    derived: dict[str, Floats] = {}
    if n is not None and d is not None and c is None:
        derived["C"] = 6.0 * n * d
    elif n is not None and c is not None and d is None:
        derived["D"] = c / (6.0 * n)
    elif d is not None and c is not None and n is None:
        derived["N"] = c / (6.0 * d)
    for role, value in derived.items():
        for row, x in enumerate(value.tolist(), start=1):
            check(x, f"{x:g}", role, f"{about['source']}: row {row}, {role} from C = 6 N D")
    texts = {
        what: None if words.get(what) is None else np.asarray(words[what], dtype=str) for what in ("group", "label")
    }
    arrays: dict[str, Any] = {_FIELDS[role]: value for role, value in {**numbers, **derived}.items()}
    table = RunTable(**arrays, groups=texts["group"], labels=texts["label"], derived=tuple(derived), **about)
    return _without_lone_group(table)


def _without_lone_group(table: RunTable) -> RunTable:
    """A group that is the same in every row says nothing about the spread between groups."""
    if table.groups is None or np.unique(table.groups).size > 1:
        return table
    note = f"the group is {show(str(table.groups[0]))} in every row and is not used"
    return replace(table, groups=None, notes=(*table.notes, note))


def rows_where(
    headings: Sequence[str], rows: Sequence[Sequence[str]], roles: Mapping[str, int], where: Sequence[str], source: str
) -> list[int]:
    """Return the places of the rows that meet every condition; refuse what is left if it is of several experiments."""
    chosen = list(range(len(rows)))
    for text in [where] if isinstance(where, str) else where:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise InputError(f"where {show(text)} is no condition: write one such as experiment=c4 or N>=1e8")
        name, sign, wanted = match.groups()
        index = next((i for i, h in enumerate(headings) if h.lower() == name.lower()), roles.get(name, -1))
        if index < 0:
            has = ", ".join(show(h) for h in headings[:12])
            raise InputError(f"{source}: where names the column {show(name)}; the table has {has}")
        chosen = [i for i in chosen if _meets(rows[i][index], sign, wanted, f"{source}: {show(text)}")]
        if not chosen:
            values = ", ".join(dict.fromkeys(show(row[index]) for row in rows[:500]))
            raise InputError(f"{source}: no row is left by {show(text)}; {show(headings[index])} holds {values[:200]}")
    for i, heading in enumerate(headings):
        if not EXPERIMENTS.fullmatch(plain(heading)) or i in roles.values():
            continue
        found = list(dict.fromkeys(rows[j][i] for j in chosen))
        if plain(heading).startswith("data") and all(_NUMERIC.fullmatch(v) for v in found):
            continue  # an amount of data
        if len(found) > 1:
            some = ", ".join(show(v) for v in found[:6]) + (" ..." if len(found) > 6 else "")
            raise InputError(
                f"{source}: several experiments in one table, {show(heading)} is {some}: pick one with "
                f"--where {show(heading + '=' + found[0])} (where= in Python), or remove the column to pool them"
            )
    return chosen


def _meets(cell: str, sign: str, wanted: str, at: str) -> bool:
    if sign in _ORDER:
        return bool(_ORDER[sign](number(cell, "N", at)[0], number(wanted, "N", at)[0]))
    same = cell.lower() == wanted.lower()
    if not same:
        try:
            same = number(cell, "N", at)[0] == number(wanted, "N", at)[0]
        except InputError:  # words, and other ones
            same = False
    return same != (sign == "!=")


def one_training_per_row(table: RunTable, unread: Mapping[str, Sequence[str]], keep: str) -> RunTable:
    """Return the rows that ``keep`` names (see ``read_table``); ``unread`` holds the columns that play no role.

    Raises
    ------
    InputError : with ``"ask"``, where rows of one N and D differ in a setting, or a run's name stands in several rows.
    """
    if keep not in KEEP:
        raise InputError(f"rows={keep!r} is unknown: choose one of {', '.join(KEEP)}")
    cell = _cells(table, ("N", "D", "C"))
    names, what = (table.groups, "group") if table.groups is not None else (table.labels, "label")
    if keep == "best":
        order = np.lexsort((table.loss, cell))
        return _kept(table, order[np.unique(cell[order], return_index=True)[1]], "the lowest loss at each N and D")
    if keep == "last":
        if names is None:
            raise InputError(f"{table.source}: rows 'last' needs the runs' names; name them: --columns label=...")
        length = next(v for v in (table.n_tokens, table.flops, table.n_params) if v is not None)
        order = np.lexsort((-length, names))
        return _kept(table, order[np.unique(names[order], return_index=True)[1]], "the last row of each run")
    if keep == "all":
        return table
    several = int(np.sum(np.bincount(cell) > 1))
    at = ", ".join(role for role in COUNTS if getattr(table, _FIELDS[role]) is not None and role not in table.derived)
    found = [h for h, texts in unread.items() if several and _is_setting(h, np.asarray(texts, dtype=str), cell)]
    if found:
        listed = ", ".join(show(h) for h in found[:4])
        raise InputError(
            f"{table.source}: {several} values of {at} stand in several rows that differ in {listed}: settings that "
            f"were tried, not seeds; --rows best takes the lowest loss of each, --where '{found[0]}=...' one setting, "
            f"--rows all every row; if it holds a count, --columns N={found[0]}"
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


def _kept(table: RunTable, places: NDArray[np.intp], what: str) -> RunTable:
    mask = np.zeros(len(table), dtype=bool)
    mask[places] = True
    left = table.select(mask)
    return replace(left, notes=(*left.notes, f"of {len(table)} rows {len(left)} are kept, {what}"))


def _cells(table: RunTable, roles: Sequence[str], digits: float = 1e-9) -> NDArray[np.intp]:
    """(n,) the number of each row's cell: rows of the same counts, so far as the table has them."""
    known = {"N": table.n_params, "D": table.n_tokens, "C": table.flops}
    logs = [np.round(np.log(v) / digits) for role in roles if (v := known[role]) is not None]
    return np.unique(np.stack(logs, axis=1), axis=0, return_inverse=True)[1].ravel()


def _is_setting(heading: str, texts: NDArray[np.str_], cell: NDArray[np.intp]) -> bool:
    """Whether a column holds what runs of one cell were made to differ in: not a seed, and not a result."""
    words = plain(heading)
    pairs = np.unique(np.stack([cell, np.unique(texts, return_inverse=True)[1]], axis=1), axis=0)
    if len(pairs) == np.unique(cell).size or SEEDS.search(words):  # one value in each cell, or seeds
        return False
    if SETTINGS.search(words):
        return True
    return not RESULTS.search(words + " ") and np.unique(texts).size <= max(2, len(texts) // 2)


def _checkpoints(table: RunTable, names: NDArray[np.str_]) -> int:
    """The most rows under one name, where names repeat with one N each and several lengths; else 0."""
    which = np.unique(names, return_inverse=True)[1]
    most = int(np.bincount(which).max())
    if len(names) < 2 * (which.max() + 1) or most < 2:
        return 0
    length = _cells(table, ("D", "C") if table.n_params is not None else ("N", "D", "C"))
    size = _cells(table, ("N",)) if table.n_params is not None else which
    one_size = all(np.unique(size[which == i]).size == 1 for i in range(which.max() + 1))
    lengths = np.unique(np.stack([which, length], axis=1), axis=0)
    return most if one_size and len(lengths) > which.max() + 1 else 0


def check_variables(table: RunTable, variables: Sequence[str]) -> None:
    """Refuse a law in ``variables`` where runs that are one to it have losses that differ by more than their noise.

    Such a law leaves out what makes them differ: N in a fit of L(D), for example.
    """
    if len(variables) != 1 or table.groups is not None:
        return
    (name,) = variables
    x, y = table.get(name), np.log(table.loss)
    cell = _cells(table, (name,), 0.02)
    count = np.bincount(cell)
    rest = y - (np.bincount(cell, y) / count)[cell]
    spare = len(y) - len(count)
    if spare < 1:
        return
    spread = float(np.sqrt(np.sum(rest**2) / spare))
    counts = {"N": table.n_params, "D": table.n_tokens}
    others = [
        role
        for role, v in counts.items()
        if role != name and v is not None and len(np.unique(_cells(table, (name, role), 0.02))) > len(count)
    ]
    if spread <= (OTHER_COUNT if others else SEED_NOISE):
        return
    worst = int(np.argmax(np.bincount(cell, np.abs(rest))))
    losses = table.loss[cell == worst]
    why = f"{' and '.join(others)} differs in them: fit L(N, D), or keep one value with --where" if others else ""
    unread = f" (columns not read: {', '.join(map(show, table.ignored))})" if table.ignored else ""
    raise InputError(
        f"{table.source}: a law of {name} alone cannot follow this table: at {name} = {x[cell == worst][0]:.4g} there "
        f"are {len(losses)} losses from {losses.min():.4g} to {losses.max():.4g}; "
        + (why or f"name what else differs with --columns{unread}")
    )

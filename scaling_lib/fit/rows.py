"""Runs as plain arrays, and which rows may be fitted together: those of one experiment, each its own training.

Runs that differ in a dataset or a tokenizer follow different laws. Runs of one size and length that differ in their
learning rate are no seeds, and checkpoints of one training share its noise. A fit of all of them looks like any other,
so a person has to say what is meant.
"""

from __future__ import annotations

import operator
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from scaling_lib.errors import InputError
from scaling_lib.fit.headings import COUNTS, NATS, number, option, plain, show

Floats = NDArray[np.float64]
V = TypeVar("V", float, Floats)
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
SIGNS = ORDER | {"=": operator.eq, "==": operator.eq, "!=": operator.ne}
FIELDS = {"N": "n_params", "D": "n_tokens", "C": "flops", "loss": "loss"}


@dataclass(frozen=True)
class RunTable:
    """Runs as plain arrays of one length ``n``; every number is finite and positive.

    Attributes
    ----------
    loss : (n,) in ``loss_unit``: ``"nats per token"`` or ``"bits per byte"``.
    n_params, n_tokens, flops : (n,) counts, or None where the file does not tell.
    groups : (n,) str, runs that share a trunk, a seed or a budget; None where not given, or the same in every row.
    labels : (n,) str, the runs' names; None where not given.
    columns : role -> the heading it was read from. ignored : the headings that were not read.
    derived : the roles that were worked out from the others by C = 6 N D.
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

    @property
    def given(self) -> dict[str, Floats]:
        """The arrays (n,) that the table has, by role: N, D, C, loss."""
        return {role: value for role, name in FIELDS.items() if (value := getattr(self, name)) is not None}

    @property
    def unread(self) -> str:
        """The headings that were not read, for a message, or nothing."""
        return f"columns not read: {', '.join(map(show, self.ignored))}" if self.ignored else ""

    def get(self, role: str) -> Floats:
        """Return the array (n,) of role "N", "D", "C" or "loss"; raise InputError if the table has none."""
        if role not in self.given:
            left = f" ({self.unread})" if self.ignored else ""
            raise InputError(f"{self.source}: no {role} column; the table gives {', '.join(self.given)}{left}")
        return self.given[role]

    def select(self, keep: NDArray[np.bool_]) -> RunTable:
        """Return the rows where ``keep`` (n,) is true."""
        arrays = (*FIELDS.values(), "groups", "labels")
        return replace(self, **{a: v[keep] for a in arrays if (v := getattr(self, a)) is not None})

    def cells(self, *roles: str, digits: float = 1e-9) -> NDArray[np.intp]:
        """Return the number (n,) of each row's cell: rows of the same counts in ``roles``, so far as these are known.

        ``digits`` : logarithms that round to one multiple of it are the same.
        """
        logs = [np.round(np.log(self.given[r]) / digits) for r in roles if r in self.given]
        return np.unique(np.stack([0.0 * self.loss, *logs], axis=1), axis=0, return_inverse=True)[1].ravel()


def completed(at: Mapping[str, V]) -> dict[str, V]:
    """Return N, D and C where two of them are given, by C = 6 N D; else what is given."""
    out = dict(at)
    if len(at) == 2:
        (third,) = set(COUNTS) - set(at)
        out[third] = 6 * at["N"] * at["D"] if third == "C" else at["C"] / (6 * at["N" if third == "D" else "D"])
    return {role: out[role] for role in COUNTS if role in out}


def contradiction(at: Mapping[str, V]) -> Floats:
    """Return C over 6 N D where all three are given and it is beyond a factor of two somewhere, else nothing."""
    if not set(COUNTS) <= set(at):
        return np.empty(0)
    ratio = np.atleast_1d(at["C"] / (6.0 * at["N"] * at["D"]))
    return ratio if ratio.max() >= 2 or ratio.min() <= 0.5 else np.empty(0)


def condition(text: str) -> tuple[str, str, str]:
    """Return (name, sign, value) of a condition such as "N>=1e8"; raise InputError for what is none."""
    match = _CONDITION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InputError(f"{show(str(text))} is no condition: write one such as N>=1e8 or experiment=c4")
    return match[1], match[2], match[3]


def _meets(cell: str, sign: str, wanted: str, at: str) -> bool:
    try:
        return bool(SIGNS[sign](number(cell, "N", at)[0], number(wanted, "N", at)[0]))
    except InputError:  # words, which have no order
        if sign in ORDER and cell:
            raise
        return sign not in ORDER and bool(SIGNS[sign](cell.lower(), wanted.lower()))


def rows_where(
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
        amounts = plain(heading).startswith("data") and all(map(_AMOUNT.fullmatch, found))
        if len(found) < 2 or i in roles.values() or amounts or not _EXPERIMENTS.fullmatch(plain(heading)):
            continue
        some = ", ".join(show(v) for v in found[:6]) + (" ..." if len(found) > 6 else "")
        raise InputError(
            f"{source}: several experiments in one table, {show(heading)} is {some}: pick one with --where "
            f"{shlex.quote(f'{heading}={found[0] or found[1]}')} (where= in Python), or remove the column to pool them"
        )
    return chosen


def one_training_per_row(table: RunTable, unread: Mapping[str, Sequence[str]], keep: str) -> RunTable:
    """The rows that ``keep`` names (see `read_table`); ``unread`` holds the columns that play no role."""
    cell, names = table.cells(*COUNTS), table.labels if table.groups is None else table.groups
    if keep == "all":
        return table
    if keep == "best":
        return _first(table, cell, table.loss, "the lowest loss at each N and D")
    if keep == "last":
        if names is None:
            raise InputError(f"{table.source}: rows 'last' needs the runs' names; name them: --columns label=...")
        length = next(table.given[role] for role in "DCN" if role in table.given)
        return _first(table, names, -length, "the last row of each run")
    several = int(np.sum(np.bincount(cell) > 1))
    at = ", ".join(role for role in table.given if role != "loss" and role not in table.derived)
    tried = [h for h, texts in unread.items() if several and _is_setting(h, texts, cell.tolist())]
    if tried:
        raise InputError(
            f"{table.source}: {several} values of {at} stand in several rows that differ in "
            f"{', '.join(show(h) for h in tried[:4])}: settings that were tried, not seeds; --rows best takes the "
            f"lowest loss of each, --where {shlex.quote(f'{tried[0]}=...')} one setting, --rows all every row; if it "
            f"holds a count, {option('N', tried[0])}"
        )
    if table.groups is None and names is not None and (most := _checkpoints(table, names.tolist())):
        heading = table.columns["label"]
        raise InputError(
            f"{table.source}: {np.unique(names).size} names in column {show(heading)} have up to {most} rows each: if "
            f"they are checkpoints of one training, --rows last takes the last of each and {option('group', heading)} "
            "lets rows of one name share their noise; if each row is a training of its own, --rows all"
        )
    note = f"{several} values of {at} stand in several rows, which are taken as seeds"
    return replace(table, notes=(*table.notes, note)) if several else table


def _first(table: RunTable, key: NDArray[Any], order: Floats, what: str) -> RunTable:
    """Of the rows of each key the one that is least in ``order``."""
    ranked = np.lexsort((order, key))
    first = ranked[np.unique(key[ranked], return_index=True)[1]]
    left = table.select(np.isin(np.arange(len(table)), first))
    return replace(left, notes=(*left.notes, f"of {len(table)} rows {len(left)} are kept, {what}"))


def _is_setting(heading: str, texts: Sequence[str], cell: Sequence[int]) -> bool:
    """Whether a column holds what runs of one cell were made to differ in: not a seed, and not a result."""
    words, several = plain(heading), len({*zip(cell, texts, strict=True)}) > len({*cell})
    few = len({*texts}) <= max(2, len(texts) // 2)
    tried = _SETTINGS.search(words) or (few and not _RESULTS.search(words + " "))
    return bool(several and tried and not _SEEDS.search(words))


def _checkpoints(table: RunTable, names: Sequence[str]) -> int:
    """The most rows under one name, where names repeat with one N each and several lengths; else 0."""
    rows = Counter(names)
    size, length = (table.cells("N"), table.cells("D", "C")) if "N" in table.given else (names, table.cells(*COUNTS))
    sizes, lengths = (len({*zip(names, v, strict=True)}) for v in (size, length))
    return max(rows.values()) if len(names) >= 2 * len(rows) and sizes == len(rows) < lengths else 0


def check_variables(table: RunTable, variables: Sequence[str]) -> None:
    """Refuse a law in ``variables`` where runs that are one to it have losses that differ by more than their noise.

    Such a law leaves out what makes them differ: N in a fit of L(D), for example.
    """
    if len(variables) != 1 or table.groups is not None:
        return
    (name,) = variables
    x, y, cell = table.get(name), np.log(table.loss), table.cells(name, digits=0.02)
    count = np.bincount(cell)
    rest = y - (np.bincount(cell, y) / count)[cell]
    others = [r for r in ("N", "D") if r in table.given and table.cells(name, r, digits=0.02).max() >= len(count)]
    spare = len(y) - len(count)
    if spare < 1 or np.sqrt(np.sum(rest**2) / spare) <= (OTHER_COUNT if others else SEED_NOISE):
        return
    worst = cell == np.argmax(np.bincount(cell, np.abs(rest)))
    losses = table.loss[worst]
    why = f"name what else differs with --columns{f' ({table.unread})' if table.ignored else ''}"
    if others:
        why = f"{' and '.join(others)} differs in them: fit L(N, D), or keep one value with --where"
    raise InputError(
        f"{table.source}: a law of {name} alone cannot follow this table: at {name} = {x[worst][0]:.4g} there "
        f"are {len(losses)} losses from {losses.min():.4g} to {losses.max():.4g}; {why}"
    )

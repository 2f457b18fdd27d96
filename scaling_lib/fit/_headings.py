"""What a person's table of runs may look like: the headings and the numbers that ``fit.table`` accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from scaling_lib.errors import InputError

NATS, BITS_PER_BYTE = "nats per token", "bits per byte"
COUNTS = ("N", "D", "C")

# For each role the accepted headings, most wanted first (lower case, any other characters as one blank).
# Names within a tuple mean the same, so two of them in one file are ambiguous; of two tuples the first wins.
SYNONYMS: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "N": (
            ("n params non embedding", "non embedding params", "non embedding parameters", "n non embedding"),
            ("n", "n params", "params", "parameters", "num params", "model size", "model parameters", "size"),
        ),
        "D": (("d", "n tokens", "tokens", "num tokens", "training tokens", "train tokens", "dataset size"),),
        "C": (("c", "flops", "flop", "training flop", "training flops", "compute", "training compute"),),
        "loss": (
            ("val loss", "validation loss", "eval loss", "test loss"),
            ("loss", "l", "final loss", "nats", "nats per token", "loss nats"),
            ("bits per byte", "bpb", "val bits per byte", "loss bits per byte", "loss bpb"),
            ("train loss", "training loss"),
        ),
        "unit": (("unit", "loss unit", "units"),),
        "group": (("group", "groups", "cluster", "trunk"),),
        "label": (("label", "model", "name", "run id", "run"),),
    }
)
LOSS_UNITS = {
    "nat": NATS, "nats": NATS, "nats per token": NATS, "nats token": NATS,
    "bpb": BITS_PER_BYTE, "bits per byte": BITS_PER_BYTE, "bits byte": BITS_PER_BYTE,
}  # fmt: skip
MULTIPLES = {
    "": 1.0, "params": 1.0, "parameters": 1.0, "tokens": 1.0, "flop": 1.0, "flops": 1.0,
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "million": 1e6, "millions": 1e6,
    "b": 1e9, "g": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9,
    "t": 1e12, "trillion": 1e12, "trillions": 1e12, "pf days": 8.64e19,
}  # fmt: skip
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?)\s*([A-Za-z/_ -]*)", re.ASCII)
_THOUSANDS = re.compile("[+-]?[0-9]{1,3}(?:([,' \u00a0\u2009\u202f])[0-9]{3})(?:\\1[0-9]{3})*")
# Wide enough for any run, or for N counted in billions; narrow enough that products and powers stay finite.
RANGE = {"N": (1e-9, 1e30), "D": (1e-9, 1e30), "C": (1e-18, 1e40), "loss": (1e-9, 1e9)}


@dataclass(frozen=True)
class Heading:
    """A recognised heading: role, rank (0 is most wanted), a count's multiple, a loss's unit."""

    role: str
    rank: int = 0
    multiple: float = 1.0
    unit: str = ""


def show(text: str) -> str:
    """Return ``text`` quoted, on one line, at most 40 characters: fit for an error message."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def plain(text: str) -> str:
    """Return ``text`` in lower case, with anything but letters and digits as one blank."""
    return " ".join(re.sub(r"[^0-9a-z]+", " ", text.lower()).split())


def recognise(heading: str) -> Heading | None:
    """Return what a heading such as "Tokens (B)" or "loss [bits per byte]" holds; None if unknown."""
    head, _, unit = heading.strip().rstrip(")]").replace("[", "(").partition("(")
    for name, suffix in ((plain(heading), ""), (plain(head), plain(unit))):
        for role, ranks in SYNONYMS.items():
            rank = next((r for r, names in enumerate(ranks) if name in names), None)
            if rank is None:
                continue
            if role == "loss" and (not suffix or suffix in LOSS_UNITS):
                named = BITS_PER_BYTE if ("byte" in name or "bpb" in name) else NATS if "nats" in name else ""
                return Heading(role, rank, unit=LOSS_UNITS.get(suffix, named))
            if role in COUNTS and suffix in MULTIPLES:
                return Heading(role, rank, multiple=MULTIPLES[suffix])
            if role not in (*COUNTS, "loss") and not suffix:
                return Heading(role, rank)
    return None


def delimiter(line: str) -> str:
    """Return the separator that splits the heading line into the most recognised columns, then the most."""

    def score(mark: str) -> tuple[int, int]:
        cells = [c.strip().strip('"') for c in line.split(mark)]
        return sum(recognise(c) is not None for c in cells), len(cells)

    return max(",;\t|", key=score)


def assign(headings: Sequence[str], source: str, columns: Mapping[str, str]) -> dict[str, tuple[int, Heading]]:
    """Return role -> (column index, heading) for a heading row; ``columns`` (role -> heading) overrules.

    Raises InputError where a needed column is missing (naming those there are) or two columns mean the same.
    """
    has = "the table has " + ", ".join(show(h.strip()) for h in headings[:12]) + ("" if len(headings) <= 12 else " ...")
    known = [recognise(h) for h in headings]
    chosen: dict[str, tuple[int, Heading]] = {}
    for role in SYNONYMS:
        entries = [(i, h) for i, h in enumerate(known) if h is not None and h.role == role]
        if role in columns or not entries:
            continue
        best = min(h.rank for _, h in entries)
        same = [(i, h) for i, h in entries if h.rank == best]
        if len(same) > 1:
            both = " and ".join(show(headings[i].strip()) for i, _ in same[:3])
            raise InputError(f"{source}: the columns {both} both mean {role}; keep one, or choose with columns=")
        chosen[role] = same[0]
    for role, wanted in columns.items():
        if role not in SYNONYMS:
            raise InputError(f"{source}: columns= names the unknown role {show(role)}; use {', '.join(SYNONYMS)}")
        places = [i for i, h in enumerate(headings) if h.strip().lower() == wanted.strip().lower()]
        if len(places) != 1:
            fault = "no column is" if not places else f"{len(places)} columns are"
            raise InputError(f"{source}: {fault} named {show(wanted)} (wanted for {role}); {has}")
        heading = known[places[0]]
        chosen[role] = (places[0], heading if heading is not None and heading.role == role else Heading(role))
    if "loss" not in chosen:
        raise InputError(f"{source}: no loss column; {has}; name one loss, val_loss or bits_per_byte")
    if not any(role in chosen for role in COUNTS):
        raise InputError(f"{source}: no column for N, D or C; {has}; name one n_params, n_tokens or flops")
    return chosen


def number(cell: str, role: str, at: str) -> tuple[float, str]:
    """Return (value, loss unit or "") of one cell; ``at`` opens the message of the InputError."""
    if not cell:
        raise InputError(f"{at} is empty; fill it in or remove the row")
    if role in COUNTS and _THOUSANDS.fullmatch(cell):
        cell = re.sub("[^0-9+-]", "", cell)
    match = _NUMBER.fullmatch(cell)
    if match is None:
        if cell.lower().lstrip("+-") in ("nan", "inf", "infinity", "na", "n/a", "none", "null", "-"):
            raise InputError(f"{at} is {show(cell)}, not a finite number; mend or remove it")
        hint = "; write the decimal point as '.'" if re.fullmatch(r"[+-]?\d+,\d+", cell) else ""
        raise InputError(f"{at} is {show(cell)}, not a number{hint}")
    value, suffix = float(match[1].replace("_", "")), plain(match[2])
    if role == "loss":
        if suffix and suffix not in LOSS_UNITS:
            raise InputError(f"{at}: unknown unit in {show(cell)}; a loss is in nats per token or bits per byte")
        return value, LOSS_UNITS.get(suffix, "")
    # "1.5B tokens" is a multiple and a word: take them apart.
    words = [suffix] if suffix in MULTIPLES else suffix.split()
    if any(w not in MULTIPLES for w in words):
        raise InputError(f"{at}: unknown unit in {show(cell)}; write a plain number, or k, M, B or T behind it")
    return value * math.prod(MULTIPLES[w] for w in words), ""


def check(value: float, shown: str, role: str, at: str) -> float:
    """Return ``value`` if it is finite, positive and plausible for ``role``; else raise InputError."""
    low, high = RANGE[role]
    if not math.isfinite(value):
        raise InputError(f"{at} is {shown}, not a finite number; mend or remove it")
    if value <= 0:
        raise InputError(f"{at} is {shown}; it must be above zero")
    if not low <= value <= high:
        raise InputError(f"{at} is {shown}, outside {low:g} to {high:g}; check its unit")
    return value

"""What a person's table of runs may look like: the headings and the numbers that ``fit.table`` accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaling_lib.errors import InputError

NATS, BITS_PER_BYTE = "nats per token", "bits per byte"
COUNTS = ("N", "D", "C")


def _names(*ranks: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name.strip() for name in rank.split(",")) for rank in ranks)


# For each role the accepted headings, most wanted first (lower case, any other characters as one blank).
# Names within a rank mean the same, so two of them in one file are ambiguous; of two ranks the first wins.
SYNONYMS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "N": _names(
        "n params non embedding, non embedding params, non embedding parameters, n non embedding, params non embedding",
        "n, n params, nparams, params, parameters, num params, num parameters, n parameters, param count, "
        "parameter count, model size, model params, model parameters, size, total params, n params total, params total",
    ),
    "D": _names(
        "d, n tokens, ntokens, tokens, num tokens, training tokens, train tokens, total tokens, tokens seen, "
        "tokens trained, token count, dataset size",
    ),
    "C": _names(
        "c, flops, flop, training flop, training flops, train flops, total flops, compute, training compute, "
        "train compute, compute flops"
    ),
    "loss": _names(
        "val loss, validation loss, eval loss, test loss, valid loss",
        "loss, l, final loss, nats, nats per token, loss nats, lm loss, ce loss, cross entropy, cross entropy loss",
        "bits per byte, bpb, val bits per byte, loss bits per byte, loss bpb, val bpb, eval bpb",
        "train loss, training loss, final train loss",
    ),
    "unit": _names("unit, loss unit, units"),
    "group": _names("group, groups, cluster, trunk"),
    "label": _names("run id, run, run name, label, model, name, model name"),
}
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
# What a heading that is not recognised may be about: where that count is missing, a person must say.
HINTS = {"N": ("param", "size", "weights"), "D": ("token",), "C": ("flop", "compute")}
_RATES = ("per", "tokenizer", "hyperparam", "batch", "vocab", "ratio")  # "tokens per second" is no count of tokens
_PERPLEXITY = re.compile(r"perplexit|\bppl\b")
_HELD_OUT = re.compile(r"(val|eval|validation|valid|test) loss")
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?)\s*([A-Za-z/_ -]*)", re.ASCII)
_THOUSANDS = re.compile("[+-]?[0-9]{1,3}(?:([,' \u00a0\u2009\u202f])[0-9]{3})(?:\\1[0-9]{3})*")
# Wide enough for any run, or for N counted in billions; narrow enough that products and powers stay finite.
RANGE = {"N": (1e-9, 1e30), "D": (1e-9, 1e30), "C": (1e-18, 1e40), "loss": (1e-9, 1e9)}


@dataclass(frozen=True)
class Heading:
    """A recognised heading: role, rank (0 is wanted most), a count's multiple, a loss's unit, whether to take ln."""

    role: str
    rank: int = 0
    multiple: float = 1.0
    unit: str = ""
    perplexity: bool = False


def show(text: str) -> str:
    """Return ``text`` quoted, on one line, at most 40 characters: fit for an error message."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def plain(text: str) -> str:
    """Return ``text`` in lower case, with anything but letters and digits as one blank."""
    return " ".join(re.sub(r"[^0-9a-z]+", " ", text.lower()).split())


def recognise(heading: str) -> Heading | None:
    """Return what a heading such as "Tokens (B)", "params_m" or "loss [bits per byte]" holds; None if unknown."""
    head, _, unit = heading.strip().rstrip(")]").replace("[", "(").partition("(")
    words = plain(heading)
    rest, _, last = words.removesuffix(" in").rpartition(" ")
    for name, suffix in ((words, ""), (plain(head), plain(unit)), (rest.removesuffix(" in"), last)):
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
    return Heading("loss", 1) if _HELD_OUT.search(words) and words.endswith("loss") else None  # "C4 Eval Loss"


def is_perplexity(heading: str) -> bool:
    """Whether a heading names perplexities, whose logarithms are losses."""
    return bool(_PERPLEXITY.search(plain(heading)))


def delimiter(line: str) -> str:
    """Return the separator that splits the heading line into the most recognised columns, then the most."""

    def score(mark: str) -> tuple[int, int]:
        cells = [c.strip().strip('"') for c in line.split(mark)]
        return sum(recognise(c) is not None for c in cells), len(cells)

    return max(",;\t|", key=score)


def assign(headings: Sequence[str], source: str, columns: Mapping[str, str]) -> dict[str, tuple[int, Heading]]:
    """Return role -> (column index, heading) for a heading row; ``columns`` (role -> heading) overrules.

    Raises InputError where a needed column is missing (naming those there are), two columns mean the same, or a count
    is missing and an unrecognised heading may hold it.
    """
    has = "the table has " + ", ".join(show(h) for h in headings[:12]) + ("" if len(headings) <= 12 else " ...")
    known = [recognise(h) for h in headings]
    chosen: dict[str, tuple[int, Heading]] = {}
    for role, wanted in columns.items():
        if role not in SYNONYMS:
            raise InputError(f"{source}: columns= names the unknown role {show(role)}; use {', '.join(SYNONYMS)}")
        log = re.fullmatch(r"(?:ln|log)\((.+)\)", wanted.strip()) if role == "loss" else None
        name = (log[1] if log else wanted).strip()
        places = [i for i, h in enumerate(headings) if h.lower() == name.lower()]
        if len(places) != 1:
            fault = "no column is" if not places else f"{len(places)} columns are"
            raise InputError(f"{source}: {fault} named {show(name)} (wanted for {role}); {has}")
        if role == "loss" and not log and is_perplexity(name):
            raise InputError(f"{source}: {show(name)} holds perplexities; their logarithms are losses: loss=ln({name})")
        found = known[places[0]]
        heading = found if found is not None and found.role == role else Heading(role)
        chosen[role] = (places[0], Heading(role, perplexity=True) if log else heading)
    taken = {i for i, _ in chosen.values()}
    for role in (r for r in SYNONYMS if r not in columns):
        entries = [(i, h) for i, h in enumerate(known) if h is not None and h.role == role and i not in taken]
        same = [(i, h) for i, h in entries if h.rank == min(e.rank for _, e in entries)]
        if len(same) > 1:
            both = " and ".join(show(headings[i]) for i, _ in same[:3])
            raise InputError(
                f"{source}: the columns {both} both mean {role}; keep one, or choose with --columns {role}=... "
                "(columns= in Python)"
            )
        if same:
            chosen[role] = same[0]
    if "loss" not in chosen:
        ppl = next((h for h in headings if is_perplexity(h)), "")
        way = (
            f"take the logarithm of a perplexity: --columns 'loss=ln({ppl})'" if ppl else "name one: --columns loss=..."
        )
        raise InputError(f"{source}: no loss column; {has}; {way}")
    _ask_for_counts(headings, source, chosen, has)
    return chosen


def _ask_for_counts(headings: Sequence[str], source: str, chosen: Mapping[str, tuple[int, Heading]], has: str) -> None:
    """Refuse where N or D is not known and a heading that is not recognised may hold it."""
    counts = [role for role in COUNTS if role in chosen]
    used = {i for i, _ in chosen.values()}
    for role in COUNTS if len(counts) < 2 else ():  # any two of the three give the last
        for i, heading in enumerate(headings):
            words = plain(heading)
            if role in counts or i in used or recognise(heading) is not None or any(w in words for w in _RATES):
                continue
            if any(hint in words for hint in HINTS[role]):
                raise InputError(
                    f"{source}: no column for {role} is recognised, and {show(heading)} may be it: say so with "
                    f"--columns {role}={heading} (columns= in Python), or rename or remove the column"
                )
    if not counts:
        raise InputError(f"{source}: no column for N, D or C; {has}; name one: --columns N=...,D=...")


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
    words = [suffix] if suffix in MULTIPLES else suffix.split()  # "1.5B tokens" is a multiple and a word
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

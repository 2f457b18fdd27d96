"""The headings and the numbers that people write in a table of runs, and what they mean."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaling_lib.errors import InputError

NATS, BITS_PER_BYTE = "nats per token", "bits per byte"
COUNTS = ("N", "D", "C")
_HELD_OUT = "(val|validation|eval|test|valid) loss"
# For each role the headings, as `plain` writes them. Of two patterns in one file the upper is wanted; two headings of
# one pattern mean the same, so a file with both is ambiguous.
_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "N": (
        "(n )?params non embedding|non embedding (params|parameters)|n non embedding|params transformer",
        "n|nparams|((n|num|model|total) )?(params|parameters)|(param|parameter) count|(model )?size|(n )?params total",
    ),
    "D": ("d|ntokens|((n|num|train|training|total) )?tokens|tokens (seen|trained)|token count|dataset size",),
    "C": ("c|((train|training|total) )?flops?|((train|training) )?compute|compute flops", "(flops|compute) budget"),
    "loss": (
        _HELD_OUT,
        "l|((final|lm|ce|cross entropy) )?loss|cross entropy|(loss )?nats|nats per token",
        "((val|loss) )?bits per byte|((val|eval|loss) )?bpb",
        "(final )?train loss|training loss",
    ),
    "unit": ("(loss )?unit|units",),
    "group": ("groups?|cluster|trunk",),
    "label": ("run( id| name)?|label|model( name)?|name",),
}
ROLES = tuple(_PATTERNS)
_SIZES = {
    1.0: ", params, parameters, tokens, flop, flops", 1e3: "k, thousand, thousands", 1e6: "m, million, millions",
    1e9: "b, g, bn, billion, billions", 1e12: "t, trillion, trillions", 8.64e19: "pf days",
}  # fmt: skip
_MULTIPLES = {word: size for size, words in _SIZES.items() for word in words.split(", ")}
LOSS_UNITS = dict.fromkeys(("nat", "nats", NATS, "nats token"), NATS)
LOSS_UNITS |= dict.fromkeys(("bpb", BITS_PER_BYTE, "bits byte"), BITS_PER_BYTE)
# What a heading that is not recognised may be about: where that count is missing, a person must say.
_HINTS = {"N": "param|size|weights", "D": "token", "C": "flop|compute"}
_RATES = re.compile("per|tokenizer|hyperparam|batch|vocab|ratio")  # "tokens per second" is no count of tokens
_PERPLEXITY = re.compile(r"perplexit|\bppl\b")
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?)\s*([A-Za-z/_ -]*)", re.ASCII)
_POINTS = re.compile(r"[1-9]\d*\.\d{3}", re.ASCII)
_POINTED = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile("[+-]?[0-9]{1,3}(?:([,' \u00a0\u2009\u202f])[0-9]{3})(?:\\1[0-9]{3})*")
# Wide enough for any run, or for N counted in billions; narrow enough that products and powers stay finite.
RANGES = {"N": (1e-9, 1e30), "D": (1e-9, 1e30), "C": (1e-18, 1e40), "loss": (1e-9, 1e9)}


class Heading(NamedTuple):
    """A recognised heading: role, rank (0 is wanted most), a count's multiple, a loss's unit, whether to take ln."""

    role: str
    rank: int = 0
    multiple: float = 1.0
    unit: str = ""
    perplexity: bool = False


def show(text: str) -> str:
    """Return ``text`` quoted, on one line, at most 200 characters: fit for an error message."""
    return repr(text if len(text) <= 200 else text[:197] + "...")


def option(role: str, heading: str) -> str:
    """Return the option that takes ``heading`` for ``role``, as a shell wants it."""
    return f"--columns {shlex.quote(f'{role}={heading}')}"


def plain(text: str) -> str:
    """Return ``text`` in lower case, with anything but letters and digits as one blank."""
    return " ".join(re.sub(r"[^0-9a-z]+", " ", text.lower()).split())


def recognise(heading: str) -> Heading | None:
    """Return what a heading such as "Tokens (B)", "params_m" or "loss [bits per byte]" holds; None if unknown."""
    head, _, unit = heading.strip().rstrip(")]").replace("[", "(").partition("(")
    words = plain(heading)
    rest, _, last = words.removesuffix(" in").rpartition(" ")
    for name, suffix in ((words, ""), (plain(head), plain(unit)), (rest.removesuffix(" in"), last)):
        for role, patterns in _PATTERNS.items():
            rank = next((i for i, pattern in enumerate(patterns) if re.fullmatch(pattern, name)), None)
            if rank is None:
                continue
            if role in COUNTS and suffix in _MULTIPLES:
                return Heading(role, rank, _MULTIPLES[suffix])
            if role == "loss" and suffix in ("", *LOSS_UNITS):
                named = BITS_PER_BYTE if ("byte" in name or "bpb" in name) else NATS if "nats" in name else ""
                return Heading(role, rank, unit=LOSS_UNITS.get(suffix, named))
            if not suffix:
                return Heading(role, rank)
    return Heading("loss", 1) if re.search(f"{_HELD_OUT}$", words) else None  # "C4 Eval Loss"


def assign(headings: Sequence[str], source: str, columns: Mapping[str, str]) -> dict[str, tuple[int, Heading]]:
    """Return role -> (column index, heading) for a heading row; ``columns`` (role -> heading) overrules.

    Raises InputError where a needed column is missing (naming those there are), two columns mean the same, or a count
    is missing and an unrecognised heading may hold it.
    """
    has = "the table has " + ", ".join(show(h) for h in headings[:12]) + ("" if len(headings) <= 12 else " ...")
    known = [recognise(h) for h in headings]
    chosen = {role: _named(role, name, headings, source, has) for role, name in columns.items()}
    free = [i for i in range(len(headings)) if i not in {i for i, _ in chosen.values()}]
    for role in (r for r in ROLES if r not in columns):
        own = [(h.rank, i, h) for i in free if (h := known[i]) is not None and h.role == role]
        same = [(i, h) for rank, i, h in own if rank == min(own)[0]]
        if len(same) > 1:
            both = " and ".join(show(headings[i]) for i, _ in same[:3])
            raise InputError(
                f"{source}: the columns {both} both mean {role}; choose one: {option(role, headings[same[0][0]])}"
            )
        if same:
            chosen[role] = same[0]
    if "loss" not in chosen:
        ppl = next((h for h in headings if _PERPLEXITY.search(plain(h))), None)
        way = "name one: --columns loss=..."
        if ppl:
            way = f"{option('loss', f'ln({ppl})')} takes the logarithm of a perplexity"
        raise InputError(f"{source}: no loss column; {has}; {way}")
    missing = [role for role in COUNTS if role not in chosen]
    unknown = [headings[i] for i in free if known[i] is None and not _RATES.search(plain(headings[i]))]
    for role in missing if len(missing) > 1 else ():  # any two of the three give the last
        for heading in (h for h in unknown if re.search(_HINTS[role], plain(h))):
            raise InputError(
                f"{source}: no column for {role} is recognised, and {show(heading)} may be it: say so with "
                f"{option(role, heading)} (columns= in Python), or rename or remove the column"
            )
    if len(missing) == len(COUNTS):
        raise InputError(f"{source}: no column for N, D or C; {has}; name one: --columns N=...,D=...")
    return chosen


def _named(role: str, wanted: str, headings: Sequence[str], source: str, has: str) -> tuple[int, Heading]:
    """The one column of the heading ``wanted``, which for a loss may be "ln(perplexity)"."""
    if role not in ROLES:
        raise InputError(f"{source}: columns= names the unknown role {show(role)}; use {', '.join(ROLES)}")
    log = re.fullmatch(r"(?:ln|log)\((.+)\)", wanted.strip()) if role == "loss" else None
    name = (log[1] if log else wanted).strip()
    places = [i for i, h in enumerate(headings) if h.lower() == name.lower()]
    if len(places) != 1:
        fault = "no column is" if not places else f"{len(places)} columns are"
        raise InputError(f"{source}: {fault} named {show(name)} (wanted for {role}); {has}")
    if role == "loss" and not log and _PERPLEXITY.search(plain(name)):
        raise InputError(
            f"{source}: {show(name)} holds perplexities; their logarithms are losses: {option('loss', f'ln({name})')}"
        )
    found = None if log else recognise(name)
    return places[0], found if found and found.role == role else Heading(role, perplexity=log is not None)


def decimal_points(rows: Sequence[Sequence[str]], losses: int, perplexities: bool) -> list[list[str]] | None:
    """Rows with decimal points for the decimal commas that they have; None where they have none.

    The column ``losses`` says which commas are decimal: no loss has thousands, though a perplexity may. 1.234,5 is
    1234.5 then.
    """
    found = [row[losses] for row in rows if _COMMA.fullmatch(row[losses])]
    if not found or (perplexities and all(map(_THOUSANDS.fullmatch, found))):
        return None

    def pointed(cell: str) -> str:
        if _POINTED.fullmatch(cell):
            cell = cell.replace(".", "")
        return re.sub(r"(?<=\d),(?=\d)", ".", cell) if cell.count(",") == 1 else cell

    return [[pointed(cell) for cell in row] for row in rows]


def read_numbers(cells: Sequence[str], role: str, at: Sequence[str], sure: bool = False) -> list[tuple[float, str]]:
    """Return the (value, loss unit or "") of cells; ``at`` opens the messages of InputError.

    Counts that all look like 1.000 or 2.500 may mean thousands: they are refused unless a person is ``sure``.
    """
    pointed = [i for i, cell in enumerate(cells) if "." in cell]
    like = bool(pointed) and all(_POINTS.fullmatch(cells[i]) for i in pointed)
    like &= all(cells[i].endswith(".000") for i in pointed) or all(len(cells[i]) < 8 for i in pointed)
    if like and role in COUNTS and not sure:
        i = pointed[0]
        raise InputError(
            f"{at[i]} is {show(cells[i])}: is the point one of thousands or of decimals? Write such counts without "
            "a point, or with other than three decimals"
        )
    return [number(cell, role, place) for cell, place in zip(cells, at, strict=True)]


def number(cell: str, role: str, at: str) -> tuple[float, str]:
    """Return (value, loss unit or "") of one cell; ``at`` opens the message of the InputError."""
    if not cell:
        raise InputError(f"{at} is empty; fill it in, remove the row, or leave it out with --where")
    if role in COUNTS and _THOUSANDS.fullmatch(cell):
        cell = re.sub("[^0-9+-]", "", cell)
    match = _NUMBER.fullmatch(cell)
    if match is None:
        hint = "write the decimal point as '.'" if _COMMA.fullmatch(cell) else "mend or remove it"
        hint = "write thousands without a point" if _POINTED.fullmatch(cell) else hint
        raise InputError(f"{at} is {show(cell)}, not a finite number; {hint}")
    value, suffix = float(match[1].replace("_", "")), plain(match[2])
    if role == "loss":
        if suffix and suffix not in LOSS_UNITS:
            raise InputError(f"{at}: unknown unit in {show(cell)}; a loss is in nats per token or bits per byte")
        return value, LOSS_UNITS.get(suffix, "")
    words = [suffix] if suffix in _MULTIPLES else suffix.split()  # "1.5B tokens" is a multiple and a word
    if any(w not in _MULTIPLES for w in words):
        raise InputError(f"{at}: unknown unit in {show(cell)}; write a plain number, or k, M, B or T behind it")
    return value * math.prod(_MULTIPLES[w] for w in words), ""

"""Numbers as people say them, and names on one line."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min, 2.5 h, 3 days."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def counted(n: int, what: str) -> str:
    """1 run, 2 runs, 1,200 runs."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def short(value: float) -> str:
    """A count as people say it: 24.7k, 1.8T."""
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def printable(text: str) -> str:
    """A name on one line: what cannot be printed (a line break, a byte of a path that is no UTF-8) is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table of text, its first row the headings: the first ``left`` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], left: int = 1) -> str:
    """Plain data as `aligned` text: of each column the heading, and a row's format such as ``"{loss:.3f}"``."""
    return aligned([tuple(columns), *(tuple(form.format(**row) for form in columns.values()) for row in rows)], left)


def plain_data(value: Any) -> Any:
    """Data as JSON knows it: lists for tuples and arrays, and None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(k): plain_data(v) for k, v in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's
    if isinstance(value, list | tuple):
        return [plain_data(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

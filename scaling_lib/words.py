"""Numbers as people say them."""

from __future__ import annotations


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

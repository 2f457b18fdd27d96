"""Results that are too dear to compute for a figure: tables (CSV) beside this file, read by `read_records`."""

from __future__ import annotations

import csv
from importlib import resources


def read_records(name: str) -> list[dict[str, str]]:
    """The rows of a table, such as ``"context"``, by column."""
    text = (resources.files(__name__) / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))

"""The numbers of committed sweeps as plain data: what documents quote, and what a test refits from the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.runs import has_records, read_runs
from scaling_lib.show.studies import rounded, sweep_numbers
from scaling_lib.show.tokenizers import compare_tokenizers


def digest_folder(folder: Path, rule: Callable[[int], float], names: Sequence[str] = ()) -> dict[str, Any]:
    """Every sweep below ``folder`` by its name, or those of ``names``.

    ``rule`` : d_model -> peak rate, for studies of rates.

    Raises
    ------
    InputError
        When no folder below holds records, or one of them is invalid.
    """
    runs = {sweep.name: read_runs(sweep) for sweep in sorted(folder.glob("*")) if has_records(sweep)}
    if not runs:
        raise InputError(f"{folder}: no folder below it holds run records; give one such as results")
    wanted = [name for name in runs if name in names or not names]
    found = {name: sweep_numbers(runs[name], rule) for name in wanted}
    for first, second in permutations(runs, 2):
        smaller = runs[first][0].config.model.vocab_size < runs[second][0].config.model.vocab_size
        if smaller and second in found:
            try:
                both = compare_tokenizers(runs[first], runs[second])
            except InputError:
                continue  # two texts, two recipes, nothing in common
            found[second].setdefault("tokenizers", []).append({"beside": first, **rounded(asdict(both))})
    return found

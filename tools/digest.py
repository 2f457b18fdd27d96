"""The numbers of committed sweeps as plain data: what documents quote, and what a test refits from the records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

from joblib import Parallel, cpu_count, delayed

from scaling_lib.errors import InputError
from scaling_lib.runs import has_records, read_runs
from scaling_lib.show.studies import rounded, sweep_numbers
from scaling_lib.show.tokenizers import compare_tokenizers


def digest_folder(folder: Path, rule: Callable[[int], float]) -> dict[str, Any]:
    """Every sweep below ``folder`` by its name; ``rule``: d_model -> peak rate, for studies of rates.

    Raises
    ------
    InputError
        When no folder below holds records, or one of them is invalid.
    """
    runs = {sweep.name: read_runs(sweep) for sweep in sorted(folder.glob("*")) if has_records(sweep)}
    if not runs:
        raise InputError(f"{folder}: no folder below it holds run records; give one such as results")
    # Fits of sweeps have nothing to do with each other: a process for each core, the largest sweeps first.
    order = sorted(runs, key=lambda name: -len(runs[name]))
    workers = min(cpu_count(), len(order))
    made = Parallel(n_jobs=workers)(delayed(sweep_numbers)(runs[name], rule) for name in order)
    by_name = dict(zip(order, made, strict=True))
    found = {name: by_name[name] for name in runs}
    for first, second in permutations(runs, 2):
        if runs[first][0].config.model.vocab_size < runs[second][0].config.model.vocab_size:
            try:
                both = compare_tokenizers(runs[first], runs[second])
            except InputError:
                continue  # two texts, two recipes, nothing in common
            found[second].setdefault("tokenizers", []).append({"beside": first, **rounded(asdict(both))})
    return found

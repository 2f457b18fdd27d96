"""What documents may say in numbers, by name: ``results/SUMMARY.json``, the records and the published tables.

``facts(root)`` gives what a template such as ``{laptop.wsd_N.alpha:.2f}`` may name; ``tools/experiment_summary.py``
fills tables with it, and ``tests/claims.py`` says which of it each document's prose states.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from scaling_lib.fit import backtests, published
from scaling_lib.runs import Run, has_records, read_runs
from scaling_lib.show.changes import changes, of_recipe

WAY = ("v1", "v1-long", "v1-warmup", "v1-cosine", "v2")  # one change at a time


@dataclass(frozen=True)
class Estimate:
    """A value with its 90% interval: ``f"{x:.2f}"`` is ``0.32 [0.26, 0.39]``, with ``-`` for an unknown end."""

    value: float
    low: float | None
    high: float | None

    def __format__(self, spec: str) -> str:
        ends = ("-" if end is None else format(end, spec) for end in (self.low, self.high))
        return f"{self.value:{spec}} [{', '.join(ends)}]"


def facts(root: Path) -> dict[str, Any]:
    """Everything that a template may name, for a checkout at ``root``.

    ``laptop.wsd_N.alpha``, ``laptop.wsd_grid.held_out.line``, ``coverage.hidden_1.held``: a sweep's fits and studies;
    ``change.small``, ``change.large``: the steps from V1 to V2; ``gpt3``, ``gpt4``: a published law at those models;
    ``pythia``: the error of its back-test; ``ln``: the loss of knowing nothing; ``loss[laptop][2x32 wsd 976]``.
    """
    results = root / "results"
    digests = json.loads((results / "SUMMARY.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {word(name): _sweep(digest) for name, digest in digests.items()}
    runs = {path.name: read_runs(path) for path in sorted(results.glob("*")) if has_records(path)}
    found["loss"] = {name: _losses(own) for name, own in runs.items()}
    if "v1-to-v2" in runs:
        found["change"] = _changes(runs["v1-to-v2"])
    law, models = published.laws["chinchilla-epoch"], {m.name: m for m in published.models()}
    for name, model in (("gpt3", models["GPT-3 175B"]), ("gpt4", models["GPT-4 (rumour)"])):
        at = model.n_params, model.n_tokens
        found[name] = Estimate(float(law.predict(*at)), *map(float, law.interval(*at, level=0.9)))
    found["pythia"] = SimpleNamespace(**{name: float(b.error[-1]) for name, b in backtests.pythia().items()})
    found["ln"] = SimpleNamespace(**{f"v{v}": math.log(v) for v in (512, 1024, 10_000)})
    return found


def word(name: str) -> str:
    """A name that a template can hold."""
    return name.replace("-", "_")


def _sweep(digest: Mapping[str, Any]) -> SimpleNamespace:
    out = SimpleNamespace(**{k: v for k, v in digest.items() if not isinstance(v, dict | list)})
    out.first, out.lowest = digest["loss"]["first"], digest["loss"]["lowest"]
    for x in digest.get("ladders", ()):
        setattr(out, f"{word(x['recipe'])}_{x['variable']}", _fit(x))
    for g in digest.get("grids", ()):
        h, grid = g["held_out"], _fit(g)
        held = round(h["interval_held"] * h["cells"])
        grid.held_out = SimpleNamespace(**h, held=held, error=h["mean_abs_error"], line=h["straight_line"])
        setattr(out, f"{word(g['recipe'])}_grid", grid)
    if "seed_noise" in digest:
        out.seed_noise = Estimate(*(digest["seed_noise"][k] for k in ("relative", "low", "high")))
    for f in digest.get("floors", ()):
        if f["n_tokens"] is None:
            out.joint_floor, out.joint_verdict = Estimate(f["E"], f["low"], f["high"]), f["verdict"]
    for t in digest.get("retrained", ()):
        setattr(out, f"hidden_{t['hidden']}", SimpleNamespace(**t))
    out.rates = SimpleNamespace(**digest.get("rates", {}))
    return out


def _fit(x: Mapping[str, Any]) -> SimpleNamespace:
    """A fit's parameters with their intervals, beside its verdict."""
    values = {name: Estimate(value, *x["intervals"][name]) for name, value in x.get("params", {}).items()}
    return SimpleNamespace(r2=x.get("r2"), sigma=x.get("sigma"), verdict=x.get("verdict"), runs=x["runs"], **values)


def _losses(runs: Sequence[Run]) -> dict[str, float]:
    """``2x32 v2 600``: the mean final loss over the seeds, nats; by size."""
    cells: dict[str, list[float]] = {}
    for r in sorted(runs, key=_size):
        if r.val_loss is not None:
            name = f"{r.config.model.name} {r.config.train.recipe} {r.config.train.max_steps}"
            cells.setdefault(name, []).append(r.val_loss)
    return {name: float(np.mean(losses)) for name, losses in cells.items()}


def _changes(runs: Sequence[Run]) -> SimpleNamespace:
    """``large.v1_long``: from the recipe before it at the largest size; ``large.all``: V1 to V2; paired by seed."""
    ends = {"small": min(runs, key=_size).config.model, "large": max(runs, key=_size).config.model}
    out = {}
    for name, model in ends.items():
        own = [r for r in runs if r.config.model == model]
        steps = {word(b): _paired(own, a, b) for a, b in pairwise(WAY)}
        out[name] = SimpleNamespace(**steps, all=_paired(own, "v1", "v2"))
    return SimpleNamespace(**out)


def _size(run: Run) -> float:
    return run.counts["n_params_non_embedding"]


def _paired(runs: Sequence[Run], before: str, after: str) -> Estimate:
    """The mean difference over seeds that both recipes have, and its 90% interval."""
    (found,) = changes(of_recipe(runs, before), of_recipe(runs, after), lambda r: r.config.model)
    return Estimate(found.change, found.low, found.high)


def timings(folder: Path) -> tuple[int, float, float, float] | None:
    """Runs, training FLOPs, minutes and expected minutes of a sweep, from its ``timings.csv``; None without one."""
    path = folder / "timings.csv"
    if not path.exists():
        return None
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    total = {key: sum(float(r[key]) for r in rows) for key in ("runs", "flops", "seconds", "expected_seconds")}
    return int(total["runs"]), total["flops"], total["seconds"] / 60, total["expected_seconds"] / 60

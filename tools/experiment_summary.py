"""All committed sweeps on one page of Markdown: what was run, which laws came of it, and what they may say.

    python tools/experiment_summary.py

fits all records anew, writes their numbers to ``results/SUMMARY.json`` and the page to ``docs/EXPERIMENT_SUMMARY.md``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.show.ladders import short

Digest = Mapping[str, Any]

INTRODUCTION = """\
# Experiment summary

<!-- Written by `python tools/experiment_summary.py`: do not edit. -->

Every sweep under [results](../results), and what its records say when they are fitted again. Losses are validation
losses in nats per token. They compare within one text and one vocabulary only. N counts parameters without embeddings,
D counts training tokens. Brackets hold 90% intervals. The verdict is about the range of the runs and says nothing about
models far beyond it: see the [guide](../EXPERIMENT_GUIDE_V2.md)."""


def experiment_summary(digests: Mapping[str, Digest], about: Mapping[str, str] | None = None) -> str:
    """The page.

    Parameters
    ----------
    digests : sweep -> its numbers, as ``digest_folder`` returns them or as ``SUMMARY.json`` holds them.
    about : sweep -> a paragraph that says what it is and shows; see `read_about`.

    Returns
    -------
    Markdown that ends with a line break. The same input gives the same text.
    """
    about = about or {}
    tables = (
        ("What was run", _runs),
        ("Laws in one variable", _ladders),
        ("Joint laws L(N, D)", _grids),
        ("Held-out runs", _held_out),
        ("Noise between seeds", _noise),
        ("WSD less V2's cosine", _paired),
        ("From one recipe to the next", _effects),
        ("Two vocabularies of one text, in bits per byte", _tokenizers),
        ("The floor where the truth is known", _floors),
        ("Intervals on retrained ladders", _retrained),
        ("Learning rates", _rates),
    )
    parts = [INTRODUCTION]
    for title, rows in tables:
        found = _table(rows, digests)
        if found:
            parts.append(f"## {title}\n\n{found}")
    told = [name for name in digests if name in about]
    if told:
        parts.append("## Sweep by sweep")
        parts += [f"### {name}\n\n{about[name]}\n\n[README](../results/{name}/README.md)" for name in told]
    return "\n\n".join(parts) + "\n"


def read_about(folder: Path) -> dict[str, str]:
    """Sweep -> the first paragraph of its README, for every folder below that has one.

    Raises
    ------
    InputError
        When a README has no paragraph below its heading.
    """
    found = {}
    for path in sorted(folder.glob("*/README.md")):
        blocks = path.read_text(encoding="utf-8").split("\n\n")
        if len(blocks) < 2 or not blocks[0].startswith("# "):
            raise InputError(f"{path}: no paragraph below a heading; say there what the sweep is and shows")
        found[path.parent.name] = blocks[1].strip()
    return found


Rows = Callable[[Mapping[str, Digest]], Iterator[tuple[str, ...]]]


def _table(rows: Rows, digests: Mapping[str, Digest]) -> str:
    """A Markdown table; the first row holds the headings. Empty where no sweep has anything to say."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows(digests)]
    if len(lines) < 2:
        return ""
    return "\n".join([lines[0], "|" + "---|" * (lines[0].count("|") - 1), *lines[1:]])


def _runs(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "runs", "text", "vocabulary", "time of the runs added up", "loss at the start", "lowest loss"
    for name, d in digests.items():
        lost = f", {d['diverged']} diverged" if d["diverged"] else ""
        text = str(d["corpus"]).partition(":")[0]
        yield (
            f"`{name}`",
            f"{d['runs']}{lost}",
            text,
            f"{d['vocab_size']:,}",
            _hours(d["training_hours"]),
            _number(d["loss"]["first"], ".2f"),
            _number(d["loss"]["lowest"], ".3f"),
        )


def _ladders(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "recipe", "law", "runs", "exponent", "floor E", "scatter", "R-squared", "verdict"
    for name, d in digests.items():
        for x in d.get("ladders", ()):
            exponent = {"N": "alpha", "D": "beta"}[x["variable"]]
            head = f"`{name}`", x["recipe"].upper(), f"L({x['variable']})", str(x["runs"])
            if "law" not in x:
                yield *head, "-", "-", "-", "-", f"no fit: {x['no_fit']}"
            elif "params" not in x:
                yield *head, "-", "-", "-", _number(x["r2"], "z.3f"), x["verdict"]
            else:
                scatter, r2 = _number(x["sigma"], ".2%"), _number(x["r2"], "z.3f")
                yield *head, _estimate(x, exponent), _estimate(x, "E"), scatter, r2, x["verdict"]


def _grids(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "recipe", "runs", "alpha", "beta", "floor E", "scatter", "R-squared", "verdict"
    for name, d in digests.items():
        for g in d.get("grids", ()):
            values = [_estimate(g, p) if "params" in g else "-" for p in ("alpha", "beta", "E")]
            scatter = _number(g.get("sigma"), ".2%")
            head = f"`{name}`", g["recipe"].upper(), str(g["runs"])
            yield *head, *values, scatter, _number(g["r2"], "z.3f"), g["verdict"]


def _held_out(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield (
        "sweep",
        "recipe",
        "hidden runs",
        "mean error of the pooled joint laws",
        "of a straight line",
        "of the nearest run",
        "inside the 90% interval",
        "median half-width",
    )
    for name, d in digests.items():
        for g in d.get("grids", ()):
            h = g["held_out"]
            errors = [_number(h[key], ".1%") for key in ("mean_abs_error", "straight_line", "nearest_run")]
            shares = _number(h["interval_held"], ".0%"), _number(h["median_half_width"], ".1%")
            yield f"`{name}`", g["recipe"].upper(), str(h["cells"]), *errors, *shares


def _noise(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "cells of three or more seeds", "of the longest runs: standard deviation, share of the loss"
    for name, d in digests.items():
        if "seed_noise" in d:
            n = d["seed_noise"]
            ends = f"[{_number(n['low'], '.2%')}, {_number(n['high'], '.2%')}]"
            yield f"`{name}`", str(n["cells"]), f"{_number(n['relative'], '.2%')} {ends}"


def _paired(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "model", "tokens", "difference, nats"
    for name, d in digests.items():
        for p in d.get("wsd_less_v2", ()):
            yield f"`{name}`", p["model"], short(p["n_tokens"]), f"{p['mean']:+.3f} [{p['low']:+.3f}, {p['high']:+.3f}]"


def _effects(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "from", "to", "model", "tokens", "change, nats", "multiple of compute"
    for name, d in digests.items():
        for e in d.get("effects", ()):
            for c in e["cells"]:
                change = f"{c['mean']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]"
                known = c["multiple"] is not None
                times = f"{c['multiple']:.2f} [{c['multiple_low']:.2f}, {c['multiple_high']:.2f}]" if known else "-"
                recipes = e["reference"].upper(), e["other"].upper()
                yield f"`{name}`", *recipes, c["model"], short(c["n_tokens"]), change, times


def _tokenizers(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "beside", "model", "at equal", "bits per byte", "beside it", "change"
    for name, d in digests.items():
        for found in d.get("tokenizers", ()):
            for c in found["cells"]:
                between = f"[{c['low']:+.1%}, {c['high']:+.1%}]" if c["low"] is not None else "one seed"
                yield (
                    f"`{name}`", f"`{found['beside']}`", c["shape"], c["equal"], f"{c['second']:.3f}",
                    f"{c['first']:.3f}", f"{c['change']:+.1%} {between}",
                )  # fmt: skip


def _floors(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "fit", "fitted E", "true E", "inside the interval", "verdict"
    for name, d in digests.items():
        for f in d.get("floors", ()):
            fit = f"L(N) at {short(f['n_tokens'])} tokens" if f["n_tokens"] else "joint law"
            fitted = f"{f['E']:.3f} [{f['low']:.3f}, {f['high']:.3f}]"
            yield f"`{name}`", fit, fitted, f"{d['true_floor']:.3f}", "yes" if f["holds"] else "no", f["verdict"]


def _retrained(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "largest sizes hidden", "beyond the fit", "intervals that held", "refused", "median half-width"
    for name, d in digests.items():
        for t in d.get("retrained", ()):
            held, wide = f"{t['held']} of {t['trials']}", _number(t["half_width"], ".1%")
            yield f"`{name}`", str(t["hidden"]), f"{t['span']:.1f}x", held, str(t["refused"]), wide


def _rates(digests: Mapping[str, Digest]) -> Iterator[tuple[str, ...]]:
    yield "sweep", "scans", "optimum inside", "what the rule costs at most", "power of the width, standard error"
    for name, d in digests.items():
        if "rates" in d:
            r = d["rates"]
            slope = None if r["width_power"] is None else -r["width_power"]
            power = f"{_number(slope, '.2f')} ± {_number(r['width_power_stderr'], '.2f')}"
            excess = _number(r["largest_excess_of_the_rule"], ".1%")
            yield f"`{name}`", str(r["scans"]), str(r["interior"]), excess, power


def _estimate(fit: Digest, name: str) -> str:
    low, high = fit["intervals"][name]
    return f"{_number(fit['params'][name], '.2f')} [{_number(low, '.2f')}, {_number(high, '.2f')}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:.1f} h"


def main(root: Path) -> None:
    """Write both files of a checkout at ``root``."""
    from scaling_lib.sweep.recipes import peak_lr
    from tools.digest import digest_folder

    results = root / "results"
    digests = digest_folder(results, peak_lr)
    (results / "SUMMARY.json").write_text(json.dumps(digests, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    page = experiment_summary(digests, read_about(results))
    (root / "docs" / "EXPERIMENT_SUMMARY.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(here))
    main(here)

"""The tables of our documents, written from the records.

    python -m tools.experiment_summary              # fits every sweep anew (minutes), then writes the tables
    python -m tools.experiment_summary laptop       # fits this one anew
    python -m tools.experiment_summary --tables     # fits nothing

A document holds ``<!-- table: NAME -->``, a table with its own heading, and ``<!-- end -->``: the rows below the
heading are replaced by what `TABLES` makes of ``results/SUMMARY.json`` and the records. Where a row links to a
notebook, the run time in it becomes the one that the notebook states.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling_lib.show.ladders import short
from scaling_lib.sweep.plan import Options, make_plan
from scaling_lib.sweep.recipes import MODES, cells, peak_lr
from tools.digest import digest_folder
from tools.facts import WAY, Estimate, facts, timings, word

ROOT = Path(__file__).resolve().parents[1]
Digests = Mapping[str, Any]
Rows = Iterator[tuple[str, ...]]
REFUSED = ("not identifiable", "no trend")


def runs(digests: Digests, _: Any) -> Rows:
    for name, d in digests.items():
        lost = f", {d['diverged']} diverged" if d["diverged"] else ""
        text = str(d["corpus"]).partition(":")[0]
        yield f"`{name}`", f"{d['runs']}{lost}", text, f"{d['vocab_size']:,}", number(d["loss"]["lowest"], ".3f")


def laws(digests: Digests, _: Any) -> Rows:
    for name, x in ladders(digests, refused=False):
        exponent = {"N": "alpha", "D": "beta"}[x["variable"]]
        law = f"{x['recipe'].upper()}, L({x['variable']})"
        yield f"`{name}`", law, str(x["runs"]), estimate(x, exponent), estimate(x, "E"), x["verdict"]


def no_law(digests: Digests, _: Any) -> Rows:
    """A row for each sweep, variable and reason."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, x in ladders(digests, refused=True):
        why = x.get("verdict") or f"no fit: {x['no_fit']}"
        found.setdefault((name, f"L({x['variable']})", why), []).append(x["recipe"].upper())
    for (name, law, why), which in found.items():
        yield f"`{name}`", law, ", ".join(which), why


def ladders(digests: Digests, *, refused: bool) -> Iterator[tuple[str, Any]]:
    for name, d in digests.items():
        for x in d.get("ladders", ()):
            if ("law" not in x or x["verdict"] in REFUSED) == refused:
                yield name, x


def joint_laws(digests: Digests, _: Any) -> Rows:
    for name, g in grids(digests):
        values = [estimate(g, p) if "params" in g else "-" for p in ("alpha", "beta", "E")]
        yield f"`{name}`", g["recipe"].upper(), *values, g["verdict"]


def held_out(digests: Digests, _: Any) -> Rows:
    for name, g in grids(digests):
        h = g["held_out"]
        errors = [number(h[key], ".1%") for key in ("mean_abs_error", "straight_line", "nearest_run")]
        inside = f"{round(h['interval_held'] * h['cells'])} of {h['cells']}"
        yield f"`{name}`", g["recipe"].upper(), *errors, inside, number(h["median_half_width"], ".1%")


def grids(digests: Digests) -> Iterator[tuple[str, Any]]:
    for name, d in digests.items():
        for g in d.get("grids", ()):
            yield name, g


def seeds(digests: Digests, _: Any) -> Rows:
    for name, d in digests.items():
        if "seed_noise" in d:
            n = d["seed_noise"]
            yield f"`{name}`", str(n["cells"]), f"{Estimate(n['relative'], n['low'], n['high']):.2%}"


def recipes(digests: Digests, _: Any) -> Rows:
    """From V2 to WSD, and from the constant rate to V2: a row for each model and length."""
    for name, d in digests.items():
        whole = [e for e in d.get("effects", ()) if (e["reference"], e["other"]) == ("v1-long", "v2")]
        cells_ = [("V2 to WSD", p) for p in d.get("wsd_less_v2", ())]
        for change, c in cells_ + [("V1-LONG to V2", c) for e in whole for c in e["cells"]]:
            found = Estimate(c["mean"], c["low"], c["high"])
            yield f"`{name}`", change, c["model"], short(c["n_tokens"]), f"{found:+.3f}"


def tokenizers(digests: Digests, _: Any) -> Rows:
    """At equal tokens, text and FLOPs: the change in bits per byte, a row for each model."""
    for name, d in digests.items():
        for found in d.get("tokenizers", ()):
            for shape in dict.fromkeys(c["shape"] for c in found["cells"]):
                changes = {c["equal"].split()[-1]: f"{c['change']:+.1%}" for c in found["cells"] if c["shape"] == shape}
                yield (
                    f"`{name}`",
                    f"`{found['beside']}`",
                    shape,
                    *(changes.get(k, "-") for k in ("tokens", "text", "FLOPs")),
                )


def floors(digests: Digests, _: Any) -> Rows:
    """The floor of the joint law, and of the ladder of the longest runs, which lies above the entropy by B / D^beta."""
    for name, d in digests.items():
        for f in d.get("floors", ())[-2:]:
            fit = f"L(N) at {short(f['n_tokens'])} tokens" if f["n_tokens"] else "joint law"
            fitted = f"{Estimate(f['E'], f['low'], f['high']):.3f}"
            yield f"`{name}`", fit, fitted, f"{d['true_floor']:.3f}", "yes" if f["holds"] else "no", f["verdict"]


def retrained(digests: Digests, _: Any) -> Rows:
    for name, d in digests.items():
        for t in d.get("retrained", ()):
            held, wide = f"{t['held']} of {t['trials']}", number(t["half_width"], ".1%")
            yield f"`{name}`", str(t["hidden"]), f"{t['span']:.1f}x", held, str(t["refused"]), wide


def rates(digests: Digests, _: Any) -> Rows:
    for name, d in digests.items():
        if "rates" in d:
            r = d["rates"]
            power = [number(r["width_power"] and -r["width_power"], ".2f"), number(r["width_power_stderr"], ".2f")]
            excess = number(r["largest_excess_of_the_rule"], ".1%")
            yield f"`{name}`", str(r["scans"]), str(r["interior"]), excess, *power


def measured(digests: Digests, _: Any) -> Rows:
    """What sweeps of a mode took, in minutes."""
    for name in digests:
        found = timings(ROOT / "results" / name) if name in MODES else None
        if found:
            yield f"`{name}`", str(found[0]), scientific(found[1]), f"{found[2]:.0f}", f"{found[3]:.0f}"


def planned(_: Digests, __: Any) -> Rows:
    """What ``plan`` says; the memory of one process for the whole batch at once, in bfloat16."""
    for mode, only in (("demo", None), ("laptop", None), ("lr-study", None), ("quick", "v1"), ("quick", "v2"),
                       ("standard", "v2"), ("full", "v2")):  # fmt: skip
        plan = make_plan(cells(mode, recipes=(only,) if only else None), Options(workers=1))
        recipe = ", ".join(dict.fromkeys(c.train.recipe.upper() for c in plan.cells))
        gb = plan.peak_bytes(lambda cell: (cell.train.batch_size, 2)) / 1e9
        yield f"`{mode}`", recipe, str(len(plan.cells)), scientific(plan.flops), f"{gb:.{0 if gb > 10 else 1}f} GB"


def steps(_: Digests, known: Any) -> Rows:
    """From V1 to V2, one change at a time, at the smallest and the largest size of v1-to-v2."""
    change = known["change"]
    for name in (*WAY[1:], "all"):
        small, large = (getattr(getattr(change, size), word(name)) for size in ("small", "large"))
        yield "V1 to V2" if name == "all" else f"to {name.upper()}", f"{small:+.3f}", f"{large:+.3f}"


def losses(sweep: str, *columns: str) -> Callable[[Digests, Any], Rows]:
    """A row for each model: the mean final loss of each of ``columns``, such as ``v1 200``, or each length of WSD."""

    def rows(_: Digests, known: Any) -> Rows:
        found = known["loss"].get(sweep, {})
        lengths = sorted({int(key.split()[2]) for key in found})
        for model in dict.fromkeys(key.split()[0] for key in found):
            own = [found.get(f"{model} {column}") for column in columns or [f"wsd {n}" for n in lengths]]
            if any(own):
                yield model, *(number(x, ".3f") for x in own)

    return rows


TABLES: dict[str, Callable[[Digests, Any], Rows]] = {
    "runs": runs, "laws": laws, "no-law": no_law, "joint-laws": joint_laws, "held-out": held_out, "seeds": seeds,
    "recipes": recipes, "tokenizers": tokenizers, "floors": floors, "retrained": retrained, "rates": rates,
    "measured": measured, "planned": planned, "steps": steps,
    "demo-losses": losses("v1-to-v2", "v1 200", "v2 600"),
    "laptop-losses": losses("laptop"),
    "quick-losses": losses("quick", "v1 1000", "v2 750", "v2 1500", "v2 3000", "v2 6000"),
}  # fmt: skip
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n\n\|[^\n]+\n\|[-|]+\n)(.*?)(\n<!-- end -->)", re.DOTALL)
NOTEBOOK = re.compile(r"(\]\(\S*?notebooks/([\w.]+)\) \|.*\| )\d+( \S+ \|)$", re.MULTILINE)


def filled(text: str, digests: Digests, known: Any) -> str:
    """The document with the rows of its tables written anew."""

    def rows(block: re.Match[str]) -> str:
        lines = [f"| {' | '.join(row)} |\n" for row in TABLES[block[2]](digests, known)]
        return block[1] + "".join(lines) + block[4]

    return NOTEBOOK.sub(lambda m: f"{m[1]}{run_time(m[2])}{m[3]}", BLOCK.sub(rows, text))


def run_time(notebook: str) -> str:
    """The seconds that a notebook says it takes."""
    text = (ROOT / "notebooks" / notebook).read_text(encoding="utf-8")
    found = re.search(r"Run time:\D*(\d+)", text)
    return found[1] if found else "?"


def written() -> dict[Path, str]:
    """Every document, with its text as it should be."""
    digests, known = json.loads((ROOT / "results" / "SUMMARY.json").read_text(encoding="utf-8")), facts(ROOT)
    documents = {p: p.read_text(encoding="utf-8") for p in (*ROOT.glob("*_V2*.md"), *ROOT.glob("docs/*.md"))}
    return {path: filled(text, digests, known) for path, text in documents.items()}


def main(names: Sequence[str]) -> None:
    """Fit the sweeps called ``names``, or all, unless that is ``--tables``; then write the documents."""
    summary = ROOT / "results" / "SUMMARY.json"
    if list(names) != ["--tables"]:
        known = json.loads(summary.read_text(encoding="utf-8")) if names else {}
        known |= digest_folder(summary.parent, peak_lr, names)
        text = json.dumps(dict(sorted(known.items())), indent=1, allow_nan=False) + "\n"
        summary.write_text(text, encoding="utf-8")
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")


def estimate(fit: Mapping[str, Any], name: str) -> str:
    return f"{Estimate(fit['params'][name], *fit['intervals'][name]):.2f}"


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def scientific(value: float) -> str:
    return f"{value:.1e}".replace("e+", "e")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What do random inputs do to the command line? Tables, targets and options of a seeded grammar, valid and broken.

    python benchmarks/rough_inputs.py [--inputs 200] [--seed 0]

Each input is a real process. It fails by a traceback or a raw warning, by taking more than 60 seconds of the processor
(or 300 on the clock), by an exit code other than 0 and 2, and by an exit 2 without one line that says why. Where a
target is asked of a table, ``fit --predict``, ``predict --target`` and Python must give one answer: equal numbers and
verdicts, or one refusal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from scaling_lib.cli_shared import reading_of
from scaling_lib.errors import InputError
from scaling_lib.fit.check import check_level
from scaling_lib.fit.report import fit_table, parse_target
from scaling_lib.fit.table import read_table

LIMIT, CLOCK = 60.0, 300.0  # seconds of the processor, and on the clock of a machine that others use
ROOT = Path(__file__).resolve().parents[1]
HEADS = {
    "N": ("N", "n_params", "params", "num_params", "Params (M)", "model_size", "#params", "params_active_x", "参数量"),
    "D": ("D", "tokens", "n_tokens", "Tokens [B]", "train_tokens", "tokens_seen_x", "训练词元数"),
    "C": ("C", "flops", "compute", "train_flops"),
    "loss": ("loss", "val_loss", "val/loss", "eval/loss", "C4 Eval Loss", "bpb", "perplexity", "end", "验证损失"),
}
UNITS = {"Params (M)": 1e6, "Tokens [B]": 1e9}
NAMES = ("t.csv", "a table.csv", "[x]*.csv", "表格.csv", "t'q\".csv", "n\udcefve.csv", "no-suffix", "t.tsv")
LAWS = ("auto", "power_n", "power_d", "power_c", "chinchilla", "kaplan", "power_mean", "line", "nope", "none")
KINDS = ("fit", "isoflop", "backtest", "next", "noise", "plan", "run", "folder", "pack", "lab", "figures")
FOLDERS = ("v1-to-v2", "laptop-seeds", "quick", "lr-study", "nowhere")


def number(r: random.Random) -> str:
    value = 10 ** r.uniform(6, 12)
    return r.choice((f"{value:.3g}", f"{value:.0f}", f"{value / 1e9:.4g}B", f"{value:,.0f}".replace(",", "_")))


def target(r: random.Random) -> str:
    """A target, mostly good."""
    broken = (
        "D",
        "N",
        "N=",
        "N=-1,D=1e9",
        "X=3",
        "N=1e9,D=2e10,C=7",
        "N=1.000,D=2.000",
        "N=nan,D=1",
        "GPT-9",
        "N=1e9;D=1",
    )
    n, d, c = number(r), number(r), f"{10 ** r.uniform(14, 26):.3g}"
    good = (f"N={n},D={d}", f"N={n}", f"D={d}", f"C={c}", f"N={n},C={c}", "GPT-3", "llama 3", f" d = {d} , n = {n}")
    return r.choice(good if r.random() < 0.8 else broken)


def table(r: random.Random, folder: Path) -> tuple[Path, list[str]]:
    """A file of runs in some dress, perhaps broken, and the options that name its columns."""
    clean = r.random() < 0.5
    kind = r.choice(
        ("grid", "grid", "ladder n", "ray") if clean else ("grid", "grid", "ladder n", "ladder d", "ray", "few", "flat")
    )
    ns, ds = ([10 ** (low + i * r.uniform(0.3, 0.6)) for i in range(r.randint(4, 6))] for low in (6.5, 8.5))
    pairs = {
        "grid": [(n, d) for n in ns for d in ds],
        "ladder n": [(n, 1e9) for n in ns],
        "ladder d": [(1e8, d) for d in ds],
        "ray": [(n, 20 * n) for n in ns],
        "few": [(ns[0], ds[0]), (ns[1], ds[0])],
        "flat": [(n, 1e9) for n in ns],
    }[kind]
    roles = [x for x in "NDC" if x in r.choice(("ND", "ND", "ND", "NC", "NDC", "N", "D", "C"))] + ["loss"]
    heads = {x: r.choice(HEADS[x]) for x in roles}
    comma, off = r.random() < 0.15, r.choice((1, 1, 1, 3, 1000))

    def cell(role: str, value: float) -> str:
        text = f"{value:.5f}" if role == "loss" else f"{value / UNITS.get(heads[role], 1):.6g}"
        return text.replace(".", ",") if comma else text

    rows = []
    for n, d in pairs:
        loss = (9.2 if kind == "flat" else 1.7 + 400 / n**0.34 + 1500 / d**0.36) * (1 + r.gauss(0, 2e-3))
        loss = 2.718281828**loss if heads["loss"] == "perplexity" else loss
        rows.append([cell(x, {"N": n, "D": d, "C": 6 * n * d * off, "loss": loss}[x]) for x in roles])
    if not clean and r.random() < 0.3:  # broken in one place
        row = r.choice(rows)
        at = r.randrange(len(row))
        row[at] = r.choice(("", "nan", "-1", "inf", "1.000.000", "1e400", "?", '"', "12 furlongs", "4,1,1", "\0"))
    extra = "" if clean else r.choice(("", "lr", "note", "dataset", "run", "seed"))
    if extra:
        rows = [[*row, r.choice(("0.1", "0.2", "a b", "", "é"))] for row in rows]
    head = [heads[x] for x in roles] + ([extra] if extra else [])
    mark = ";" if comma else r.choice((",", ",", ";", "\t", "|", "  "))
    lines = [mark.join(words) for words in [head, *rows]]
    if r.random() < 0.2:
        lines[0] = "# " + lines[0]
    if not clean and r.random() < 0.2:
        lines.insert(r.randrange(len(lines)), r.choice(("", "# a note", "x" * 300, mark.join(head), '{"N": 1}')))
    text = "\n".join(lines) + "\n"
    path = folder / r.choice(NAMES)
    code = "utf-8" if clean else r.choice(("utf-8",) * 5 + ("utf-8-sig", "utf-16", "gbk", "utf-16-le"))
    path.write_bytes(text.encode(code, errors="replace"))
    odd = ("params_active_x", "tokens_seen_x", "end", "perplexity")  # nobody can guess these
    named = [
        f"{x}={f'ln({h})' if h == 'perplexity' else h}"
        for x, h in heads.items()
        if r.random() < (0.95 if h in odd or not h.isascii() else 0.2)
    ]
    return path, [word for text in named for word in ("--columns", text)]


def options(r: random.Random) -> list[str]:
    """Options that ``fit`` and ``predict`` share."""
    found = ["--law", r.choice(LAWS)] if r.random() < 0.4 else []
    found += ["--level", r.choice(("0.5", "0.95", "0", "1", "nan", "x"))] if r.random() < 0.2 else []
    found += ["--rows", r.choice(("best", "last", "all", "none"))] if r.random() < 0.15 else []
    return found + (
        ["--where", r.choice(("N>=1e7", "lr=0.1", "dataset=é", "x", "loss<", "C>1.000"))] if r.random() < 0.15 else []
    )


def command(r: random.Random, folder: Path) -> tuple[list[str], list[str], Path | None]:
    """The words of a command; of a question about a table also its target and the table."""
    path, named = table(r, folder)
    sweep = str(ROOT / "results" / r.choice(FOLDERS))
    kind = r.choice(("doors",) * 6 + KINDS)
    if kind == "doors":
        return [*named, *options(r)], [target(r)], path
    fits = (
        "--fixed=E=1.7",
        "--fixed=E=x",
        "--delta=-1",
        "--bootstrap=20",
        "--objective=lad",
        "--objective=?",
        "--recipe=v2",
    )
    plans = ("--seeds=3", "--sizes=99", f"--corpus=text:{path}", "--corpus=text:", "--vocab-size=5", "--lr=nan")
    commands: dict[str, list[Any]] = {
        "fit": ["fit", path, *named, r.choice(fits)],
        "isoflop": ["fit", path, *named, "--approach", "isoflop", "--predict", target(r)],
        "backtest": ["backtest", path, *named, "--hide", r.choice(("0", "2", "N>=1e8", "C=1", "99", "x"))],
        "next": ["next", path, *named, "--target", target(r), "--budget", r.choice(("1e20", "1e5", "0")), "--json"],
        "noise": ["noise", path, path, *named, r.choice(("--paired", "--detect=1", "--level=2"))],
        "plan": ["plan", "--mode", r.choice(("demo", "laptop", "full", "nope")), r.choice(plans)],
        "run": [
            "run",
            "--dry-run",
            "--recipe",
            r.choice(("v1", "?")),
            "--corpus",
            r.choice(("uniform", "moon", "text:.")),
        ],
        "folder": [r.choice(("summary", "predict", "fit", "backtest", "compare")), r.choice((sweep, path, "", folder))],
        "pack": ["pack", r.choice((path, "", folder))],
        "lab": ["lab", r.choice(("open", "status", "buy", "jump")), folder / "lab", r.choice(("x", "--shop=moon"))],
        "figures": ["figures", r.choice((path, "", sweep + "x")), "--target", r.choice(("blog", "html", "pptx", "?"))],
    }
    return [str(word) for word in commands[kind]], [], None


def spent_by_children() -> float:
    """Seconds of the processor that all processes asked so far have taken."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def ask(words: list[str], folder: Path) -> tuple[int | None, str, str, str]:
    """The exit code (None: too slow), stdout, the last line of stderr, and what is wrong with the process, or ""."""
    before = spent_by_children()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "scaling_lib", *words], cwd=folder, capture_output=True, timeout=CLOCK
        )
    except subprocess.TimeoutExpired:
        return None, "", "", f"more than {CLOCK:.0f} s"
    except ValueError:  # a NUL character: no process can be given it
        return 2, "", "", ""
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()
    last = err.splitlines()[-1] if err else ""
    wrong = ""
    if (spent := spent_by_children() - before) > LIMIT:
        wrong = f"{spent:.0f} s of the processor"
    if "Traceback" in err or "Warning:" in err:
        wrong = f"traceback or warning: {last}"
    elif done.returncode not in (0, 2):
        wrong = f"exit {done.returncode}: {last}"
    elif done.returncode == 2 and not last.startswith("scaling_lib"):
        wrong = f"exit 2 without a reason: {last}"
    return done.returncode, out, last.partition(": ")[2].partition("; see scaling_lib")[0], wrong


def in_python(path: Path, words: list[str], where: str) -> object:
    """The same question in Python: (loss, intervals, verdict) of each prediction, or the refusal."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name in ("--columns", "--where"):
        parser.add_argument(name, action="append", default=[])
    for name, kind, usual in (("--law", str, "auto"), ("--level", float, 0.9), ("--rows", str, None)):
        parser.add_argument(name, type=kind, default=usual)
    try:
        args = parser.parse_args(words)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_level(args.level)
            parse_target(where)
            report = fit_table(read_table(path, **reading_of(args)), law=args.law, level=args.level, predict=[where])
    except argparse.ArgumentError as error:
        return str(error)
    except InputError as error:
        return " ".join(str(error).splitlines())
    return _numbers(report.to_dict()["predictions"])


def _numbers(found: Any) -> object:
    keys = ("loss", "mean_interval", "new_run_interval", "verdict", "refused", "reasons")
    return json.loads(json.dumps([[p[key] for key in keys] for p in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to share the work")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    for i in range(args.first, args.first + args.inputs):
        r = random.Random(f"{args.seed}-{i}")
        folder = Path(tempfile.mkdtemp(prefix="rough-"))
        words, targets, path = command(r, folder)
        if path is None:
            code, _, _, wrong = ask(words, folder)
            told = [wrong] if wrong else []
            counts[f"exit {code}"] += 1
        else:
            answers, told = [in_python(path, words, targets[0])], []
            for door, option in (("fit", "--predict"), ("predict", "--target")):
                code, out, last, wrong = ask([door, str(path), f"{option}={targets[0]}", *words, "--json"], folder)
                told += [wrong] if wrong else []
                counts[f"exit {code}"] += 1
                found = json.loads(out) if code == 0 else {}
                answers.append(_numbers(found.get("predictions", found.get("answers"))) if found else last)
            if len({json.dumps(a) for a in answers}) > 1 and not told:
                told = ["answers differ: " + " | ".join(json.dumps(a, ensure_ascii=False)[:300] for a in answers)]
            counts["questions by three doors"] += 1
            counts["answered alike"] += not told
        counts["inputs"] += 1
        counts["faults"] += bool(told)
        for text in told:
            print(f"{i}: {words} {targets} {path}: {text}".encode(errors="backslashreplace").decode(), flush=True)
        if not told:
            shutil.rmtree(folder, ignore_errors=True)
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"
    main()

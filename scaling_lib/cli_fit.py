"""The commands that ask a law: fit, backtest and predict. A part of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.cli_shared import (
    JSON,
    LEVEL,
    TABLE,
    command,
    finished,
    no_table,
    option,
    positive,
    print_json,
    print_report,
    reading_of,
    refuse,
    say,
)
from scaling_lib.errors import InputError
from scaling_lib.runs import read_runs

if TYPE_CHECKING:
    from scaling_lib.fit.report import Prediction
    from scaling_lib.fit.table import RunTable

PUBLISHED = ("cerebras", "pythia", "epoch")
DEFAULT_TARGETS = ("GPT-3", "GPT-4", "Llama 3")


# ---- fit


@command(
    "fit", "Fit a law to a CSV table (columns N, D or C, loss) or a folder of run records.",
    option("source", type=Path, help="a .csv file, or a folder such as runs/demo"),
    option("--law", default="auto", help="auto, power_n, power_d, chinchilla, ... (default: auto)"),
    option("--approach", choices=("law", "isoflop"), default="law",
        help="isoflop: a parabola for each budget, with the joint law's answer beside it (default: law)"),
    option("--recipe", help="which runs of a folder to pool; needed where it holds several recipes"),
    option("--objective", default=None, help="log_mse, huber or lad (default: the law's own)"),
    option("--delta", type=positive(float), metavar="X", help="threshold of the huber objective (1e-3)"),
    option("--fixed", action="append", default=[], metavar="E=1.7", help="hold a parameter; may be repeated"),
    option("--bootstrap", type=int, default=0, metavar="DRAWS", help="bootstrap draws (default: none)"),
    option("--predict", action="append", default=[], metavar="N=175e9,D=300e9",
        help="a target; of N, D, C two suffice, of a joint law C=1e22 means its best split; or a model by name, such "
        "as GPT-3; may be repeated"),
    LEVEL,
    JSON,
    *TABLE,
)  # fmt: skip
def fit_command(args: argparse.Namespace) -> int:
    """``fit``: a law of a table or a folder; of a folder without wishes, the report of the whole sweep."""
    from scaling_lib.fit.check import check_level
    from scaling_lib.fit.report import fit_table, parse_target
    from scaling_lib.fit.table import read_table

    check_level(args.level)  # and the targets, before anything is read: as predict does
    for text in args.predict:
        parse_target(text)
    if args.source.is_dir():
        no_table(args)
        asked = (args.recipe, args.json, args.predict, args.objective, args.bootstrap, args.delta, args.fixed)
        everything = read_runs(args.source)
        wishes = any(asked) or (args.approach, args.law, args.level) != ("law", "auto", 0.9)
        if not wishes and any(r.finished for r in everything):
            print_report(everything)
            return 0
        source = _folder_table(args.source, args.recipe, args.law)
    else:
        refuse(args, f"chooses among the runs of a folder; {args.source} is a table: leave it out", "recipe")
        source = read_table(args.source, **reading_of(args))
    if args.approach == "isoflop":
        return _isoflop(args, source)
    options: dict[str, Any] = {"objective": args.objective, "delta": args.delta, "fixed": _fixed(args.fixed)}
    options = {name: value for name, value in options.items() if value}
    plain = args.law == "auto" and not (options or args.bootstrap)
    as_predict = args.source.is_dir() and plain  # the same question as predict's
    asked = [] if as_predict else args.predict
    found = fit_table(source, law=args.law, bootstrap=args.bootstrap, predict=asked, level=args.level, **options)
    if as_predict and args.predict:
        found = replace(found, predictions=_of_folder(args))
    if args.json:
        print_json(found.to_dict())
    else:
        print(found.to_text())
    return 0


def _of_folder(args: argparse.Namespace) -> tuple[Prediction, ...]:
    """What ``predict`` answers: by the joint law where the runs form a grid, else by each ladder's."""
    from scaling_lib.fit.report import Prediction
    from scaling_lib.show.predict import ask, find_source, parse_target

    source = find_source(str(args.source), args.recipe)
    answers = [a for text in args.predict for a in ask(source, parse_target(text), args.level)]
    told = [tuple(text for text in (a.law, *a.reasons, a.note) if text) for a in answers]
    return tuple(
        Prediction(a.at, a.verdict, why, a.refused, a.loss, a.mean_interval, a.new_run_interval)
        for a, why in zip(answers, told, strict=True)
    )


def _folder_table(folder: Path, recipe: str | None, law: str) -> RunTable:
    """The runs of one recipe: of a law in one variable those that differ in it alone, of a joint law all."""
    from scaling_lib.show.grids import run_table
    from scaling_lib.show.ladders import check_rates, find_ladders

    runs = finished(folder, recipe)
    if law in ("power_n", "power_d"):
        variable = law[-1].upper()
        ladder = next((x for x in find_ladders(runs) if x.variable == variable), None)
        if ladder is None:
            raise InputError(f"law {law} needs three or more runs that differ in {variable} alone; the folder has none")
        say(f"the ladder in {variable}: {len(ladder.runs)} runs, {ladder.held}")
        runs = list(ladder.runs)
    own = runs[0].config.train.recipe
    lost = [r.run_id for r in read_runs(folder) if not r.finished and r.config.train.recipe == own]
    if lost:
        say(f"left out, not finished: {', '.join(lost)}")
    check_rates(runs)
    return run_table(runs, str(folder))


def _isoflop(args: argparse.Namespace, table: RunTable) -> int:
    """``fit --approach isoflop``: parabolas, and the joint law's answer beside them."""
    from scaling_lib.fit.report import about_reading, compare_with_joint, parse_target

    refuse(args, "is for --approach law; leave it out", "objective", "delta", "fixed")
    targets = [parse_target(text).at for text in args.predict]
    if any(set(at) != {"C"} for at in targets):
        raise InputError("--approach isoflop predicts the best size of a budget: write --predict C=1e21")
    found = compare_with_joint(table, [at["C"] for at in targets], level=args.level, bootstrap=args.bootstrap)
    if args.json:
        print_json(found.to_dict())
    else:
        print(*about_reading(table), found.to_text(), sep="\n")
    return 0


def _fixed(given: Sequence[str]) -> dict[str, float]:
    """Parameters to hold, by name, from words such as E=1.7."""
    held: dict[str, float] = {}
    for part in ",".join(given).split(",") if given else ():
        name, _, value = part.partition("=")
        try:
            held[name.strip()] = float(value)
        except ValueError:
            raise InputError(f"--fixed {part!r}: write it as a parameter and a number, such as E=1.7") from None
    return held


# ---- backtest


@command(
    "backtest", "Hide the largest models of a table, predict them from the rest, and compare.",
    option("source", nargs="?", help="cerebras, pythia, epoch, a .csv file, or a folder such as results/laptop"),
    option("--all", action="store_true", help="score every table at hand, in Markdown (minutes)"),
    option("--law", help="of a .csv file or a folder: chinchilla, kaplan, power_mean, power_n, ..."),
    option("--hide", metavar="K",
        help="of a .csv file: how many of the largest, or which, as in 'N>=1.5e9' (default: 1)"),
    *TABLE,
)  # fmt: skip
def backtest_command(args: argparse.Namespace) -> int:
    """``backtest``: hide the largest models, predict them, and compare."""
    from scaling_lib.fit import backtests

    if args.all:
        refuse(
            args, "goes with one table: --all takes every table, form and cut; leave it out", "source", "law", "hide"
        )
        from scaling_lib.fit.scores import as_markdown, scoreboard

        print(as_markdown(scoreboard()))
        return 0
    if args.source is None:
        raise InputError("name what to back-test: cerebras, pythia, epoch, a .csv file or a folder; or --all")
    if args.source in PUBLISHED:
        no_table(args)
        refuse(
            args, f"is for your own runs; {args.source} has its models and its law fixed: leave it out", "hide", "law"
        )
    if args.source == "cerebras":
        for models, result in backtests.cerebras().items():
            print(f"The smallest {models} models\n{result.summary()}\n")
    elif args.source == "pythia":
        for convention, result in backtests.pythia().items():
            print(f"Counting {convention.replace('_', '-')} parameters\n{result.summary()}\n")
    elif args.source == "epoch":
        print(backtests.epoch().summary())
    elif Path(args.source).is_dir():
        from scaling_lib.show.grids import the_grid

        no_table(args)
        refuse(args, "is for .csv files: of a folder the largest size and the longest runs are hidden", "hide")
        print(the_grid(read_runs(Path(args.source))).hold_out(args.law or "auto").summary(20))
    else:
        from scaling_lib.fit.report import about_reading
        from scaling_lib.fit.table import read_table

        table = read_table(Path(args.source), **reading_of(args))
        for line in about_reading(table):
            say(line)
        hide = 1 if args.hide is None else int(args.hide) if args.hide.lstrip("+-").isdecimal() else args.hide
        print(backtests.backtest(table, hide=hide, law=args.law or "auto").summary())
    return 0


# ---- predict


@command(
    "predict", "Predict a loss at N, D or C, with intervals and a verdict.",
    option("source", help="a folder such as results/laptop, a .csv file (columns N, D or C, loss), or a published law"),
    option("--target", action="append", metavar="WHERE",
        help="N=1e9,D=2e10 (of N, D, C two suffice), N=1e9 or D=2e10 alone, C=1e21 (its best split), or a model by "
        "name, such as GPT-3; may be repeated (default: GPT-3, GPT-4 as rumoured, Llama 3)"),
    option("--recipe", help="whose runs of a folder (default: the last on the way from V1 to V2, or wsd)"),
    option("--law", default="auto", help="of a .csv file: power_n, power_d, power_c, chinchilla, ... (default: auto)"),
    LEVEL,
    JSON,
    *TABLE,
)  # fmt: skip
def predict_command(args: argparse.Namespace) -> int:
    """``predict``: answer every target. A refusal is an answer: it exits 0 and says why."""
    from scaling_lib.fit.check import check_level
    from scaling_lib.show.predict import ask, find_source, in_words, parse_target

    check_level(args.level)
    targets = [parse_target(text) for text in args.target or DEFAULT_TARGETS]
    source = find_source(args.source, args.recipe, args.law, **reading_of(args))
    found = [a for target in targets for a in ask(source, target, args.level)]
    if args.json:
        about = {"source": source.name, "about": source.about, "loss_unit": source.loss_unit, "level": args.level}
        print_json({**about, "answers": [asdict(a) for a in found]})
    else:
        print(in_words(source, found, args.level))
    return 0

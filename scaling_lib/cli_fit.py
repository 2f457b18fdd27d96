"""The commands that ask a law: fit, backtest, predict, next and noise. A part of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.cli_shared import (
    FIGURES,
    JSON,
    LEVEL,
    finished,
    positive,
    print_json,
    print_report,
    reading_of,
    records,
    refuse,
    save_figure,
    say,
    table_options,
)
from scaling_lib.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaling_lib.fit.design import Advice, Outlook
    from scaling_lib.fit.seeds import Contrast, Replicates
    from scaling_lib.fit.table import RunTable
    from scaling_lib.runs import Run

PUBLISHED = ("cerebras", "pythia", "epoch")
DEFAULT_TARGETS = ("GPT-3", "GPT-4", "Llama 3")
FRONTIER_POINTS = 8
FOR_TABLES = "is for .csv files; leave it out"


# ---- fit


def fit_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``fit``."""
    add = parser.add_argument
    add("source", type=Path, help="a .csv file, or a folder such as runs/demo")
    add("--law", default="auto", help="auto, power_n, power_d, chinchilla, ... (default: auto)")
    add("--approach", choices=("law", "isoflop"), default="law",
        help="isoflop: a parabola for each budget, with the joint law's answer beside it (default: law)")  # fmt: skip
    add("--recipe", help="which runs of a folder to pool; needed where it holds several recipes")
    add("--objective", default=None, help="log_mse, huber or lad (default: the law's own)")
    add("--delta", type=positive(float), metavar="X", help="threshold of the huber objective (1e-3)")
    add("--fixed", action="append", default=[], metavar="E=1.7", help="hold a parameter; may be repeated")
    add("--bootstrap", type=int, default=0, metavar="DRAWS", help="bootstrap draws (default: none)")
    add("--predict", action="append", default=[], metavar="N=175e9,D=300e9",
        help="a target; of N, D, C two suffice, of a joint law C=1e22 means its best split; may be "
        "repeated")  # fmt: skip
    add("--level", **LEVEL)
    add("--json", **JSON)
    table_options(parser)


def fit_command(args: argparse.Namespace) -> int:
    """``fit``: a law of a table or a folder; of a folder without wishes, the report of the whole sweep."""
    from scaling_lib.fit.report import fit_table
    from scaling_lib.fit.table import read_table

    if args.source.is_dir():
        refuse(args, FOR_TABLES, "columns", "where", "rows")
        asked = (args.recipe, args.json, args.predict, args.objective, args.bootstrap, args.delta, args.fixed)
        everything = records(args.source)
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
    found = fit_table(source, law=args.law, bootstrap=args.bootstrap, predict=args.predict, level=args.level, **options)
    if args.json:
        print_json(found.to_dict())
    else:
        print(found.to_text())
    return 0


def _folder_table(folder: Path, recipe: str | None, law: str) -> RunTable:
    """The runs of one recipe: of a law in one variable those that differ in it alone, of a joint law all."""
    from scaling_lib.show.grids import run_table
    from scaling_lib.show.ladders import check_rates, find_ladders

    runs = finished(folder, recipe)
    if law.endswith(("_n", "_d")):  # power_n, broken_n, power_d, broken_d
        variable = law[-1].upper()
        ladder = next((x for x in find_ladders(runs) if x.variable == variable), None)
        if ladder is None:
            raise InputError(f"law {law} needs three or more runs that differ in {variable} alone; the folder has none")
        say(f"the ladder in {variable}: {len(ladder.runs)} runs, {ladder.held}")
        runs = list(ladder.runs)
    own = runs[0].config.train.recipe
    lost = [r.run_id for r in records(folder) if not r.finished and r.config.train.recipe == own]
    if lost:
        say(f"left out, not finished: {', '.join(lost)}")
    check_rates(runs)
    return run_table(runs, str(folder))


def _isoflop(args: argparse.Namespace, table: RunTable) -> int:
    """``fit --approach isoflop``: parabolas, and the joint law's answer beside them."""
    from scaling_lib.fit.report import about_reading, compare_with_joint, counts

    refuse(args, "is for --approach law; leave it out", "objective", "delta", "fixed")
    targets = [counts(text) for text in args.predict]
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


def backtest_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``backtest``."""
    add = parser.add_argument
    add("source", nargs="?", help="cerebras, pythia, epoch, a .csv file, or a folder such as results/laptop")
    add("--all", action="store_true", help="score every table at hand, in Markdown (minutes)")
    add("--law", help="of a .csv file or a folder: chinchilla, kaplan, power_mean, power_n, ...")
    add("--hide", metavar="K",
        help="of a .csv file: how many of the largest, or which, as in 'N>=1.5e9' (default: 1)")  # fmt: skip
    table_options(parser)


def backtest_command(args: argparse.Namespace) -> int:
    """``backtest``: hide the largest models, predict them, and compare."""
    from scaling_lib.fit import backtests

    if args.all:
        from scaling_lib.fit.scoreboard import as_markdown, scoreboard

        refuse(
            args, "goes with one table: --all takes every table, form and cut; leave it out", "source", "law", "hide"
        )
        print(as_markdown(scoreboard()))
        return 0
    if args.source is None:
        raise InputError("name what to back-test: cerebras, pythia, epoch, a .csv file or a folder; or --all")
    if args.source in PUBLISHED:
        refuse(args, FOR_TABLES, "columns", "where", "rows")
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

        refuse(args, FOR_TABLES, "columns", "where", "rows")
        refuse(args, "is for .csv files: of a folder the largest size and the longest runs are hidden", "hide")
        print(the_grid(records(Path(args.source))).hold_out(args.law or "auto").summary(20))
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


def predict_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``predict``."""
    add = parser.add_argument
    add("source", help="a folder such as results/laptop, a .csv file (columns N, D or C, loss), or a published law")
    add("--target", action="append", metavar="WHERE",
        help="N=1e9,D=2e10 (of N, D, C two suffice), N=1e9 or D=2e10 alone, C=1e21 (its best split), or a model by "
        "name, such as GPT-3; may be repeated (default: GPT-3, GPT-4 as rumoured, Llama 3)")  # fmt: skip
    add("--recipe", help="whose runs of a folder (default: the last on the way from V1 to V2, or wsd)")
    add("--law", default="auto", help="of a .csv file: power_n, power_d, power_c, chinchilla, ... (default: auto)")
    add("--level", **LEVEL)
    add("--json", **JSON)
    table_options(parser)


def predict_command(args: argparse.Namespace) -> int:
    """``predict``: answer every target. A refusal is an answer: it exits 0 and says why."""
    if not 0 < args.level < 1:
        raise InputError(f"--level must lie between 0 and 1, not {args.level:g}")
    from scaling_lib.show.predict import ask, find_source, in_words, parse_target

    targets = [parse_target(text) for text in args.target or DEFAULT_TARGETS]
    source = find_source(args.source, args.recipe, args.law, **reading_of(args))
    found = [a for target in targets for a in ask(source, target, args.level)]
    if args.json:
        about = {"source": source.name, "about": source.about, "loss_unit": source.loss_unit, "level": args.level}
        print_json({**about, "answers": [asdict(a) for a in found]})
    else:
        print(in_words(source, found, args.level))
    return 0


# ---- next


def next_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``next``."""
    add = parser.add_argument
    add("source", type=Path, help="the runs so far: a .csv file with N, D and loss, or a folder of run records")
    add("--target", required=True, metavar="N=..,D=..", help="where the loss is wanted; or a model by name: GPT-3")
    add("--budget", required=True, type=positive(float), metavar="FLOPS", help="for all of the next runs together")
    add("--max-run", type=positive(float), metavar="FLOPS", help="for one of them (default: the budget)")
    add("--criterion", choices=("c", "D"), default="c", help="c: the target's interval; D: the whole law (default: c)")
    add("--recipe", help="whose runs of a folder, where it holds several recipes")
    add("--out", **FIGURES)
    add("--json", action="store_true", help="print JSON, draw nothing")


def next_command(args: argparse.Namespace) -> int:
    """``next``: which runs to train next, for a target and a budget; a figure of width against cost."""
    import numpy as np

    from scaling_lib.fit.design import Outlook, candidate_grid
    from scaling_lib.fit.estimate import fit_joint
    from scaling_lib.fit.table import read_table
    from scaling_lib.show.grids import run_table
    from scaling_lib.show.predict import parse_target

    at = parse_target(args.target).at
    if "N" not in at or "D" not in at:
        raise InputError(f"a target needs N and D, such as N=1e9,D=2e10, not {args.target!r}")
    if args.source.is_dir():
        table = run_table(finished(args.source, args.recipe), str(args.source))
    else:
        table = read_table(args.source)
    n, d = table.get("N"), table.get("D")
    fit = fit_joint(n, d, table.loss, groups=table.groups)
    per_6nd = 1.0 if table.flops is None else float(np.median(table.flops / (6.0 * n * d)))
    most = min(args.max_run or args.budget, args.budget)
    outlook = Outlook(fit, *candidate_grid(fit, most, per_6nd), (at["N"], at["D"]))
    advice = outlook.choose(args.budget, args.criterion)
    if args.json:
        rows = {k: getattr(advice, k).tolist() for k in ("n", "d", "cost", "width")}
        print_json({"criterion": advice.criterion, "budget": advice.budget, **rows})
        return 0
    print(advice_table(advice, "FLOPs"))
    print(f"verdict at the target now: {fit.verdict(at['N'], at['D'])}")
    path = save_figure("next-runs", lambda figure: _frontier(outlook, advice, figure), args.out)
    print(f"figure: {path}")
    return 0


def advice_table(advice: Advice, unit: str, names: Sequence[str] | None = None) -> str:
    """The advice run by run, with the half-width that is expected after each."""
    import numpy as np

    lines = [f"half-width of the 90% interval at the target now: {100 * advice.width[0]:.3g}% of the loss"]
    lines.append(f"{'run':>16} {'N':>9} {'D':>9} {unit:>9} {'in all':>9} {'half-width then':>16}")
    for i, total in enumerate(np.cumsum(advice.cost)):
        name = names[i] if names else str(i + 1)
        lines.append(
            f"{name:>16} {advice.n[i]:>9.3g} {advice.d[i]:>9.3g} {advice.cost[i]:>9.3g} {total:>9.3g} "
            f"{100 * advice.width[i + 1]:>15.3g}%"
        )
    return "\n".join(lines)


def _frontier(outlook: Outlook, advice: Advice, figure: Figure) -> None:
    """The frontier of width against cost, with the way to it and two other ways to spend the same."""
    import numpy as np

    budgets = np.geomspace(max(float(outlook.cost.min()), advice.budget / 1e3), advice.budget, FRONTIER_POINTS)
    order = np.argsort(-outlook.cost, kind="stable")
    ray = [i for i in order if abs(np.log(outlook.d[i] / outlook.n[i] / 20.0)) < np.log(2.0) / 2.0 + 1e-9]
    axes = figure.add_subplot()
    axes.plot(budgets, 100 * outlook.frontier(budgets), "o-", label="best for each budget")
    for label, way in (("largest first", order), ("20 tokens a parameter", ray)):
        bought: list[int] = []
        for i in way:
            if outlook.cost[[*bought, i]].sum() <= advice.budget:
                bought.append(int(i))
        steps = [outlook.width(bought[: i + 1]) for i in range(len(bought))]
        axes.plot(np.cumsum(outlook.cost[bought]), 100 * np.array(steps), "s--", markersize=4, label=label)
    axes.axhline(100 * advice.width[0], linestyle=":", color="0.5", label="now")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("training FLOPs of the next runs")
    axes.set_ylabel("expected half-width of the\n90% interval at the target (% of the loss)")
    axes.legend()


# ---- noise


def noise_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``noise``."""
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE",
        help="a folder of records with two recipes, or two .csv files: the reference and the other")  # fmt: skip
    add("--recipe", action="append", default=[], metavar="NAME", help="of a folder: the reference, then the other")
    add("--paired", action=argparse.BooleanOptionalAction, help="pair runs by seed (default: of a folder, yes; of .csv "
        "files, whose column group or label names the seed, no)")  # fmt: skip
    add("--level", **LEVEL)
    add("--detect", type=positive(float), metavar="PERCENT",
        help="count the seeds for a difference of so much of the loss")  # fmt: skip
    add("--json", **JSON)


def noise_command(args: argparse.Namespace) -> int:
    """``noise``: are two recipes different, what is the speed-up, and how many seeds would settle it?"""
    from scaling_lib.fit.seeds import contrasts

    reference, other, names = _replicates(args)
    paired = args.sources[0].is_dir() if args.paired is None else args.paired
    detect = None if args.detect is None else args.detect / 100.0
    found = contrasts(reference, other, paired=paired, level=args.level, detect=detect)
    if args.json:
        print_json([asdict(c) for c in found])
    else:
        print(_contrast_table(found, names, paired, args.level, args.detect))
    return 0


def _replicates(args: argparse.Namespace) -> tuple[Replicates, Replicates, tuple[str, str]]:
    from scaling_lib.fit.seeds import Replicates
    from scaling_lib.fit.table import read_table

    folders = [s.is_dir() for s in args.sources]
    if folders == [True]:
        folder = args.sources[0]
        recipes = args.recipe or sorted({r.config.train.recipe for r in records(folder) if r.finished})
        if len(recipes) != 2:
            raise InputError(f"two recipes are compared, not {', '.join(recipes) or 'none'}: --recipe v1 --recipe v2")
        first, second = (_by_seed(finished(folder, recipe)) for recipe in recipes)
        return first, second, (recipes[0], recipes[1])
    if folders != [False, False] or args.recipe:
        raise InputError("give one folder of records with two recipes, or two .csv files without --recipe")
    tables = [read_table(source) for source in args.sources]
    first, second = (
        Replicates(t.get("N"), t.get("D"), t.loss, t.labels if t.groups is None else t.groups) for t in tables
    )
    return first, second, (args.sources[0].stem, args.sources[1].stem)


def _by_seed(runs: Sequence[Run]) -> Replicates:
    import numpy as np

    from scaling_lib.fit.seeds import Replicates

    n, d = (np.array([r.counts[k] for r in runs]) for k in ("n_params_non_embedding", "n_tokens"))
    seeds = np.array([str(r.config.train.seed) for r in runs])
    return Replicates(n, d, np.array([r.val_loss for r in runs], dtype=float), seeds)


def _contrast_table(
    found: Sequence[Contrast], names: tuple[str, str], paired: bool, level: float, detect: float | None
) -> str:
    import numpy as np

    wanted = "as measured" if detect is None else f"of {detect:g}%"
    lines = [
        f"{names[1]} against {names[0]}, {'paired by seed' if paired else 'not paired'}; {level:.0%} intervals",
        f"compute: how many times the tokens {names[0]} needs for the same loss at this size",
        f"needed: seeds of each that find a difference {wanted} in 90% of trials",
        f"{'N':>9} {'D':>9} {'seeds':>6} {'difference':>11} {'interval':>20} {'':>16} {'compute':>20} {'needed':>7}",
    ]
    for c in found:
        value, low, high = c.factor
        times = f"{value:.2f}x [{low:.2f}, {high:.2f}]" if 0.0 < value < np.inf else "beyond its lengths"
        one = c.difference
        said = "real" if one.real else "within the noise"
        lines.append(
            f"{c.n:>9.3g} {c.d:>9.3g} {'+'.join(map(str, c.seeds)):>6} {100 * one.change:>+10.2f}% "
            f"{f'[{100 * one.low:+.2f}%, {100 * one.high:+.2f}%]':>20} {said:>16} "
            f"{'-' if np.isnan(value) else times:>20} {'>1000' if c.needed is None else c.needed:>7}"
        )
    return "\n".join(lines)

"""The commands that plan what to train: next, for a target, and noise, for a comparison. A part of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.cli_shared import (
    FIGURES,
    FOR_TABLES,
    JSON,
    LEVEL,
    finished,
    positive,
    print_json,
    reading_of,
    records,
    refuse,
    save_figure,
    table_options,
)
from scaling_lib.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaling_lib.fit.design import Advice, Outlook
    from scaling_lib.fit.seeds import Contrast, Replicates
    from scaling_lib.runs import Run

FRONTIER_POINTS = 8


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
    table_options(parser)


def next_command(args: argparse.Namespace) -> int:
    """``next``: which runs to train next, for a target and a budget; a figure of width against cost."""
    import numpy as np

    from scaling_lib.fit.design import Outlook, candidate_grid
    from scaling_lib.fit.estimate import fit_joint
    from scaling_lib.fit.report import parse_target
    from scaling_lib.fit.table import read_table
    from scaling_lib.show.grids import run_table

    at = parse_target(args.target).at
    if "N" not in at or "D" not in at:
        raise InputError(f"a target needs N and D, such as N=1e9,D=2e10, not {args.target!r}")
    if args.source.is_dir():
        refuse(args, FOR_TABLES, "columns", "where", "rows")
        table = run_table(finished(args.source, args.recipe), str(args.source))
    else:
        table = read_table(args.source, **reading_of(args))
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
    table_options(parser)


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
    if any(folders):
        refuse(args, FOR_TABLES, "columns", "where", "rows")
    if folders == [True]:
        folder = args.sources[0]
        recipes = args.recipe or sorted({r.config.train.recipe for r in records(folder) if r.finished})
        if len(recipes) != 2:
            raise InputError(f"two recipes are compared, not {', '.join(recipes) or 'none'}: --recipe v1 --recipe v2")
        first, second = (_by_seed(finished(folder, recipe)) for recipe in recipes)
        return first, second, (recipes[0], recipes[1])
    if folders != [False, False] or args.recipe:
        raise InputError("give one folder of records with two recipes, or two .csv files without --recipe")
    tables = [read_table(source, **reading_of(args)) for source in args.sources]
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

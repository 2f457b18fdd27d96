"""The commands about what to train: next, for a target; noise, for a comparison; lab, a game."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.cli_shared import (
    FIGURES,
    JSON,
    LEVEL,
    TABLE,
    command,
    finished,
    no_table,
    option,
    positive,
    print_json,
    reading_of,
    refuse,
    save_figure,
)
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, read_runs
from scaling_lib.words import aligned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaling_lib.fit.design import Advice, Outlook
    from scaling_lib.fit.seeds import Contrast, Replicates
    from scaling_lib.lab.game import Lab
    from scaling_lib.lab.shop import Item

FRONTIER_POINTS = 8


# ---- next


@command(
    "next", "Which runs to train next for a target and a budget.",
    option("source", type=Path, help="the runs so far: a .csv file with N, D and loss, or a folder of run records"),
    option("--target", required=True, metavar="N=..,D=..", help="where the loss is wanted; or a model by name: GPT-3"),
    option("--budget", required=True, type=positive(float), metavar="FLOPS", help="for all of the next runs together"),
    option("--max-run", type=positive(float), metavar="FLOPS", help="for one of them (default: the budget)"),
    option("--criterion", choices=("c", "D"), default="c",
        help="c: the target's interval; D: the whole law (default: c)"),
    option("--recipe", help="whose runs of a folder, where it holds several recipes"),
    FIGURES,
    option("--json", action="store_true", help="print JSON, draw nothing"),
    *TABLE,
)  # fmt: skip
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
        no_table(args)
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
    print(_advice_table(advice, "FLOPs"))
    print(f"verdict at the target now: {fit.verdict(at['N'], at['D'])}")
    path = save_figure("next-runs", lambda figure: _frontier(outlook, advice, figure), args.out)
    print(f"figure: {path}")
    return 0


def _advice_table(advice: Advice, unit: str, names: Sequence[str] | None = None) -> str:
    """The advice run by run, with the half-width that is expected after each."""
    import numpy as np

    rows = [("run", "N", "D", unit, "in all", "half-width then")]
    for i, total in enumerate(np.cumsum(advice.cost)):
        n, d, cost, so_far = (f"{v:.3g}" for v in (advice.n[i], advice.d[i], advice.cost[i], total))
        rows.append((names[i] if names else str(i + 1), n, d, cost, so_far, f"{100 * advice.width[i + 1]:.3g}%"))
    now = f"half-width of the 90% interval at the target now: {100 * advice.width[0]:.3g}% of the loss"
    return f"{now}\n{aligned(rows)}"


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


@command(
    "noise", "Are two recipes different? From runs that repeat with other seeds.",
    option("sources", nargs="+", type=Path, metavar="SOURCE",
        help="a folder of records with two recipes, or two .csv files: the reference and the other"),
    option("--recipe", action="append", default=[], metavar="NAME", help="of a folder: the reference, then the other"),
    option("--paired", action=argparse.BooleanOptionalAction,
        help="pair runs by seed (default: of a folder, yes; of .csv files, whose column group or label names the "
        "seed, no)"),
    LEVEL,
    option("--detect", type=positive(float), metavar="PERCENT",
        help="count the seeds for a difference of so much of the loss"),
    JSON,
    *TABLE,
)  # fmt: skip
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
        no_table(args)
    if folders == [True]:
        folder = args.sources[0]
        recipes = args.recipe or sorted({r.config.train.recipe for r in read_runs(folder) if r.finished})
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
    rows = [("N", "D", "seeds", "difference", "interval", "", "compute", "needed")]
    for c in found:
        (value, low, high), one = c.factor, c.difference
        times = f"{value:.2f}x [{low:.2f}, {high:.2f}]" if 0.0 < value < np.inf else "beyond its lengths"
        rows.append((
            f"{c.n:.3g}", f"{c.d:.3g}", "+".join(map(str, c.seeds)), f"{100 * one.change:+.2f}%",
            f"[{100 * one.low:+.2f}%, {100 * one.high:+.2f}%]", "real" if one.real else "within the noise",
            "-" if np.isnan(value) else times, ">1000" if c.needed is None else str(c.needed),
        ))  # fmt: skip
    return "\n".join([
        f"{names[1]} against {names[0]}, {'paired by seed' if paired else 'not paired'}; {level:.0%} intervals",
        f"compute: how many times the tokens {names[0]} needs for the same loss at this size",
        f"needed: seeds of each that find a difference {wanted} in 90% of trials",
        aligned(rows, left=0),
    ])  # fmt: skip


# ---- lab

ACTIONS = {
    "open": "begin a game", "status": "the price list, the losses bought, the targets", "price": "what RUNs cost",
    "buy": "pay for RUNs and see their losses; without one, deliver what is owed",
    "advise": "what the fit says of a target, and what to buy next", "seal": "a target's predicted loss, for good",
    "hero": "run the sealed target", "score": "the interval score of the seal beside other ways; lower is better",
}  # fmt: skip
NAMES_RUNS = ("price", "buy", "advise", "seal")


@command(
    "lab", "A game: spend a budget, seal a prediction of a large run, find out.",
    option("action", choices=ACTIONS, metavar="ACTION", help="; ".join(f"{k}: {what}" for k, what in ACTIONS.items())),
    option("folder", type=Path, metavar="DIR", help="folder of the lab, such as runs/lab"),
    option("runs", nargs="*", metavar="RUN", help="of price and buy: runs for sale; of seal and advise: the target"),
    option("--shop", help="of open: live, gemstones, a committed sweep such as laptop, or a folder of records"),
    [
        option("--budget", type=positive(float), metavar="FLOPS",
            help="of open (default: 0.3 of the dearest target's price)"),
        option("--minutes", type=positive(float), metavar="M", help="of open, live: minutes of this machine"),
    ],
    option("--loss", type=float, help="of seal: the predicted loss"),
    option("--low", type=float, help="of seal: the lower end of its 90%% interval"),
    option("--high", type=float, help="of seal: the upper end"),
)  # fmt: skip
def lab_command(args: argparse.Namespace) -> int:
    """``lab``: one step of a game."""
    from scaling_lib.lab.game import open_lab

    if args.action != "open":
        refuse(args, "is fixed when a lab is opened: leave it out", "shop", "budget", "minutes")
    elif args.shop is None:
        raise InputError("a lab needs a shop: --shop live, gemstones, or a committed sweep such as laptop")
    if args.runs and args.action not in NAMES_RUNS:
        raise InputError(f"lab {args.action} names no run: leave {args.runs[0]} out")
    unit = "minutes" if args.minutes else "FLOPs"
    lab = open_lab(args.folder, args.shop, args.minutes or args.budget, unit=unit)
    unit = lab.shop.unit
    if args.action in ("open", "status"):
        print(_status(lab))
    elif args.action == "price":
        if not args.runs:
            raise InputError(f"name the runs whose price you ask for; lab status {args.folder} lists them with prices")
        print(f"{lab.price(args.runs):.4g} {unit}; {lab.left:.4g} are left")
    elif args.action == "buy":
        for name, loss in lab.buy(args.runs).items():
            print(f"{name:>16} {'diverged' if loss is None else f'{loss:.4f}'}")
        print(f"{lab.left:.4g} {unit} are left")
    elif args.action == "advise":
        print(_advise(lab, args.runs))
    elif args.action == "seal":
        if len(args.runs) != 1 or None in (args.loss, args.low, args.high):
            raise InputError("a seal is one target with --loss, --low and --high; `lab status` lists the targets")
        print(f"sealed: {lab.seal(args.runs[0], args.loss, args.low, args.high)}")
    elif args.action == "hero":
        print(f"{lab.hero():.4f}")
    else:
        print(lab.score().summary())
    return 0


def _status(lab: Lab) -> str:
    """What is left, what is for sale, what was bought, and what is to be predicted."""
    known: dict[str, float | str | None] = {**dict.fromkeys(lab.owed, "owed"), **lab.losses}

    def row(item: Item) -> tuple[str, ...]:
        loss = known.get(item.name, "")
        said = f"{loss:.4f}" if isinstance(loss, float) else "diverged" if loss is None else loss
        return item.name, f"{item.n:.3g}", f"{item.d:.3g}", f"{item.price:.3g}", said

    headings = ("run", "N", "D", lab.shop.unit, "loss")
    lines = [
        f"{lab.path}: the shop {lab.shop.name}, {lab.left:.4g} of {lab.budget:.4g} {lab.shop.unit} left",
        aligned([headings, *map(row, lab.shop.items)]),
        "targets, of which one is to be predicted:",
        aligned([row(h) for h in lab.shop.heroes]),
    ]
    steps = {
        "seal": "sealed of {config}: {loss:.4f}, 90% interval [{low:.4f}, {high:.4f}]; hash {sha256}",
        "hero": "{config} has run: {loss:.4f}",
    }
    lines += [steps[e["kind"]].format(**e) for e in lab.entries if e["kind"] in steps]
    return "\n".join(lines)


def _advise(lab: Lab, names: Sequence[str]) -> str:
    """What the fit says of a target, by default the dearest, and which runs on sale would shrink its interval most."""
    if len(names) > 1:
        raise InputError("advice is for one target")
    target = lab.shop.find(names[0], "heroes") if names else lab.shop.heroes[-1]
    fit, at = lab.fit(), (target.n, target.d)
    low, high = fit.interval(*at, kind="new_run")
    loss = f"{fit.predict(*at):.4f}, 90% interval of a run [{low:.4f}, {high:.4f}]"
    try:
        chosen, advice = lab.advise(target.name)
    except InputError as error:  # the fit is an answer, too
        table = f"no advice: {error}"
    else:
        table = _advice_table(advice, lab.shop.unit, chosen)
    return f"{target.name}: {loss}; {fit.verdict(*at)}\n{table}"

"""The commands ``lab``, ``next`` and ``noise``. A part of the command line."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.cli_predict import plain
from scaling_lib.cli_shared import positive, records, say
from scaling_lib.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaling_lib.fit.design import Advice, Outlook
    from scaling_lib.fit.seeds import Contrast, Replicates
    from scaling_lib.lab.game import Lab

ACTIONS = ("open", "status", "price", "buy", "advise", "seal", "hero", "score")
FRONTIER_POINTS = 8


def lab_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``lab``."""
    add = parser.add_argument
    add("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    add("folder", type=Path, metavar="DIR", help="folder of the lab, such as runs/lab")
    add("runs", nargs="*", metavar="RUN", help="of price and buy: runs for sale; of seal and advise: the target")
    add("--shop", help="of open: live, gemstones, a committed sweep such as laptop, or a folder of records")
    money = parser.add_mutually_exclusive_group()
    money.add_argument("--budget", type=positive(float), metavar="FLOPS", help="of open (default: 0.3 of the hero's)")
    money.add_argument("--minutes", type=positive(float), metavar="M", help="of open, live: minutes of this machine")
    add("--loss", type=float, help="of seal: the predicted loss")
    add("--low", type=float, help="of seal: the lower end of its 90%% interval")
    add("--high", type=float, help="of seal: the upper end")


def lab_command(args: argparse.Namespace) -> int:
    """``lab``: one step of a game; its state is in the folder's ledger."""
    from scaling_lib.lab.game import open_lab

    if args.action != "open" and (args.shop or args.budget or args.minutes):
        raise InputError("--shop, --budget and --minutes are fixed when a lab is opened: leave them out")
    if args.action == "open" and args.shop is None:
        raise InputError("a lab needs a shop: --shop live, gemstones, or a committed sweep such as laptop")
    unit = "minutes" if args.minutes else "FLOPs"
    lab = open_lab(args.folder, args.shop, args.minutes or args.budget, unit=unit)
    unit = lab.shop.unit
    if args.action in ("open", "status"):
        print(_status(lab))
    elif args.action == "price":
        print(f"{lab.price(args.runs):.4g} {unit}; {lab.left:.4g} are left")
    elif args.action == "buy":
        if lab.shop.cells:
            say(f"training in {lab.path.parent / 'runs'}; interrupted, it goes on with: lab buy {args.folder}")
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
    unit, known, owed = lab.shop.unit, lab.losses, lab.owed
    lines = [
        f"{lab.path}: the shop {lab.shop.name}, {lab.left:.4g} of {lab.budget:.4g} {unit} left",
        f"{'run':>16} {'N':>9} {'D':>9} {unit:>9}  loss",
    ]
    for item in lab.shop.items:
        loss = known.get(item.name, "owed" if item.name in owed else "")
        said = f"{loss:.4f}" if isinstance(loss, float) else "diverged" if loss is None else loss
        lines.append(f"{item.name:>16} {item.n:>9.3g} {item.d:>9.3g} {item.price:>9.3g}  {said}".rstrip())
    lines.append("targets, of which one is to be predicted:")
    lines += [f"{h.name:>16} {h.n:>9.3g} {h.d:>9.3g} {h.price:>9.3g}" for h in lab.shop.heroes]
    steps = {"seal": "a prediction of {config} is sealed", "hero": "{config} has run"}
    lines += [steps[e["kind"]].format(**e) for e in lab.entries if e["kind"] in steps]
    return "\n".join(lines)


def _advise(lab: Lab, names: list[str]) -> str:
    """What the fit says of a target, by default the dearest, and which runs on sale would shrink its interval most."""
    if len(names) > 1:
        raise InputError("advice is for one target")
    target = lab.shop.find(names[0], "heroes") if names else lab.shop.heroes[-1]
    fit, at = lab.fit(), (target.n, target.d)
    low, high = fit.interval(*at, kind="new_run")
    chosen, advice = lab.advise(target.name)
    return (
        f"{target.name}: {fit.predict(*at):.4f}, 90% interval of a run [{low:.4f}, {high:.4f}]; {fit.verdict(*at)}\n"
        + _table(advice, lab.shop.unit, chosen)
    )


def _table(advice: Advice, unit: str, names: list[str] | None = None) -> str:
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


def next_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``next``."""
    add = parser.add_argument
    add("source", type=Path, help="the runs so far: a .csv file with N, D and loss, or a folder of run records")
    add("--target", required=True, metavar="N=..,D=..", help="where the loss is wanted; or a model by name: GPT-3")
    add("--budget", required=True, type=positive(float), metavar="FLOPS", help="for all of the next runs together")
    add("--max-run", type=positive(float), metavar="FLOPS", help="for one of them (default: the budget)")
    add("--criterion", choices=("c", "D"), default="c", help="c: the target's interval; D: the whole law (default: c)")
    add("--recipe", help="whose runs of a folder, where it holds several recipes")
    add("--out", type=Path, default=Path("figures"), metavar="DIR", help="folder for the figure (default: figures)")
    add("--json", action="store_true", help="print JSON, draw nothing")


def next_command(args: argparse.Namespace) -> int:
    """``next``: which runs to train next, for a target and a budget; a figure of width against cost."""
    import numpy as np

    from scaling_lib.fit.design import Outlook, candidate_grid
    from scaling_lib.fit.estimate import fit_joint
    from scaling_lib.fit.table import read_table
    from scaling_lib.show.predict import parse_target

    at = parse_target(args.target).at
    if "N" not in at or "D" not in at:
        raise InputError(f"a target needs N and D, such as N=1e9,D=2e10, not {args.target!r}")
    if args.source.is_dir():
        from scaling_lib.runs import check_poolable
        from scaling_lib.show.grids import run_table

        runs = _of_recipe(args.source, args.recipe)
        check_poolable(runs)
        table = run_table(runs, str(args.source))
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
        print(json.dumps(plain({"criterion": advice.criterion, "budget": advice.budget, **rows}), allow_nan=False))
        return 0
    print(_table(advice, "FLOPs"))
    print(f"verdict at the target now: {fit.verdict(at['N'], at['D'])}")
    print(f"figure: {_draw(outlook, advice, args.out)}")
    return 0


def _draw(outlook: Outlook, advice: Advice, out: Path) -> Path:
    """The frontier of width against cost, with the way to it and two other ways to spend the same."""
    import numpy as np

    from scaling_lib.show import export
    from scaling_lib.show.figures import Named

    budgets = np.geomspace(max(float(outlook.cost.min()), advice.budget / 1e3), advice.budget, FRONTIER_POINTS)
    best = outlook.frontier(budgets)
    order = np.argsort(-outlook.cost, kind="stable")
    ray = [i for i in order if abs(np.log(outlook.d[i] / outlook.n[i] / 20.0)) < np.log(2.0) / 2.0 + 1e-9]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(budgets, 100 * best, "o-", label="best for each budget")
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

    return export.save_named(Named("next-runs", draw, "", ""), out, ["png"], "blog")[0]


def noise_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``noise``."""
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE",
        help="a folder of records with two recipes, or two .csv files: the reference and the other")  # fmt: skip
    add("--recipe", action="append", default=[], metavar="NAME", help="of a folder: the reference, then the other")
    add("--paired", action=argparse.BooleanOptionalAction, help="pair runs by seed (default: of a folder, yes; of .csv "
        "files, whose column group or label names the seed, no)")  # fmt: skip
    add("--level", type=float, default=0.9, help="confidence of the intervals (default: 0.9)")
    add(
        "--detect",
        type=positive(float),
        metavar="PERCENT",
        help="count the seeds for a difference of so much of the loss",
    )
    add("--json", action="store_true", help="print JSON")


def noise_command(args: argparse.Namespace) -> int:
    """``noise``: are two recipes different, what is the speed-up, and how many seeds would settle it?"""
    from scaling_lib.fit.seeds import contrasts

    reference, other, names = _replicates(args)
    paired = args.sources[0].is_dir() if args.paired is None else args.paired
    detect = None if args.detect is None else args.detect / 100.0
    found = contrasts(reference, other, paired=paired, level=args.level, detect=detect)
    if args.json:
        print(json.dumps(plain([asdict(c) for c in found]), indent=1, allow_nan=False))
    else:
        print(_contrast_table(found, names, paired, args.level, args.detect))
    return 0


def _replicates(args: argparse.Namespace) -> tuple[Replicates, Replicates, tuple[str, str]]:
    import numpy as np

    from scaling_lib.fit.seeds import Replicates
    from scaling_lib.fit.table import read_table

    folders = [s.is_dir() for s in args.sources]
    if folders == [True]:
        runs = [r for r in records(args.sources[0]) if r.finished and r.val_loss is not None]
        recipes = args.recipe or sorted({r.config.train.recipe for r in runs})
        if len(recipes) != 2:
            raise InputError(f"two recipes are compared, not {', '.join(recipes) or 'none'}: --recipe v1 --recipe v2")
        out = []
        for recipe in recipes:
            own = _of_recipe(args.sources[0], recipe)
            n, d = (np.array([r.counts[k] for r in own]) for k in ("n_params_non_embedding", "n_tokens"))
            seeds = np.array([str(r.config.train.seed) for r in own])
            out.append(Replicates(n, d, np.array([r.val_loss for r in own], dtype=float), seeds))
        return out[0], out[1], (recipes[0], recipes[1])
    if folders != [False, False] or args.recipe:
        raise InputError("give one folder of records with two recipes, or two .csv files without --recipe")
    made = []
    for source in args.sources:
        t = read_table(source)
        made.append(Replicates(t.get("N"), t.get("D"), t.loss, t.labels if t.groups is None else t.groups))
    return made[0], made[1], (args.sources[0].stem, args.sources[1].stem)


def _of_recipe(folder: Path, recipe: str | None) -> list[Any]:
    """The finished runs of one recipe in a folder."""
    from scaling_lib.runs import check_poolable

    runs = [r for r in records(folder) if r.finished and r.val_loss is not None]
    known = sorted({r.config.train.recipe for r in runs})
    if recipe is None and len(known) > 1:
        raise InputError(f"{folder} holds several recipes ({', '.join(known)}); choose one with --recipe")
    own = [r for r in runs if recipe in (None, r.config.train.recipe)]
    if not own:
        raise InputError(f"{folder}: no finished runs of recipe {recipe!r}; there are {', '.join(known) or 'none'}")
    check_poolable(own)
    return own


def _contrast_table(
    found: tuple[Contrast, ...], names: tuple[str, str], paired: bool, level: float, detect: float | None
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

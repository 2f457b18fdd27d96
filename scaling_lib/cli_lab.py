"""The command ``lab``: one step of a game, whose state is in the folder's ledger. A part of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.cli_next import advice_table
from scaling_lib.cli_shared import positive, refuse
from scaling_lib.errors import InputError

if TYPE_CHECKING:
    from scaling_lib.lab.game import Lab

ACTIONS = {
    "open": "begin a game", "status": "the price list, the losses bought, the targets", "price": "what RUNs cost",
    "buy": "pay for RUNs and see their losses; without one, deliver what is owed",
    "advise": "what the fit says of a target, and what to buy next", "seal": "a target's predicted loss, for good",
    "hero": "run the sealed target", "score": "the interval score of the seal beside other ways; lower is better",
}  # fmt: skip
NAMES_RUNS = ("price", "buy", "advise", "seal")


def lab_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``lab``."""
    add = parser.add_argument
    said = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    add("action", choices=ACTIONS, metavar="ACTION", help=said)
    add("folder", type=Path, metavar="DIR", help="folder of the lab, such as runs/lab")
    add("runs", nargs="*", metavar="RUN", help="of price and buy: runs for sale; of seal and advise: the target")
    add("--shop", help="of open: live, gemstones, a committed sweep such as laptop, or a folder of records")
    money = parser.add_mutually_exclusive_group()
    money.add_argument(
        "--budget", type=positive(float), metavar="FLOPS", help="of open (default: 0.3 of the dearest target's price)"
    )
    money.add_argument("--minutes", type=positive(float), metavar="M", help="of open, live: minutes of this machine")
    add("--loss", type=float, help="of seal: the predicted loss")
    add("--low", type=float, help="of seal: the lower end of its 90%% interval")
    add("--high", type=float, help="of seal: the upper end")


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
        table = advice_table(advice, lab.shop.unit, chosen)
    return f"{target.name}: {loss}; {fit.verdict(*at)}\n{table}"

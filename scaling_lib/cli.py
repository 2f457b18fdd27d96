"""The command line: parse, call the library, print. The only module that prints or exits.

Data goes to stdout, progress and errors to stderr. Exit 0: done; 1: some runs failed; 2: wrong usage or bad
input, one line; 130: interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scaling_lib import __version__
from scaling_lib.cli_compare import compare_command, compare_options
from scaling_lib.cli_doctor import doctor_command
from scaling_lib.cli_lab import lab_command, lab_options, next_command, next_options, noise_command, noise_options
from scaling_lib.cli_predict import predict_command, predict_options
from scaling_lib.cli_shared import (
    ended_like_ctrl_c,
    positive,
    print_report,
    reading_of,
    records,
    say,
    table_options,
)
from scaling_lib.cli_sweep import plan_command, run_command, sweep_options
from scaling_lib.errors import InputError
from scaling_lib.words import counted

if TYPE_CHECKING:
    from scaling_lib.fit.table import RunTable
    from scaling_lib.runs import Run


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, not the whole usage; exit 2."""
        self.exit(2, f"{self.prog}: {_one_line(message)}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = _parser().parse_args(argv)
    try:
        with ended_like_ctrl_c():
            status = int(args.call(args))
        sys.stdout.flush()  # so that a reader who has left is noticed here, not while Python shuts down
        return status
    except InputError as error:
        print(f"scaling_lib: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # Without --force (or a shortened form of it), which would start over instead of going on.
        words = [w for w in argv or sys.argv[1:] if len(w) < 3 or not "--force".startswith(w)]
        again = shlex.join([_python(), "-m", "scaling_lib", *words])
        print(f"\nscaling_lib: interrupted; finished runs are kept. To go on: {again}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:  # a Python that knows the folder but not the packages
        package = (error.name or "").partition(".")[0]
        if package in ("", "scaling_lib"):
            raise
        print(
            f"scaling_lib: {package} is not installed in {sys.executable}; run ./run_experiments.sh check once, then "
            "source .venv/bin/activate",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that the system refuses, such as a name that is too long
        where = f"{error.filename}: " if error.filename else ""
        print(f"scaling_lib: {_one_line(where + (error.strerror or str(error)))}", file=sys.stderr)
        return 2


def script(about: str, command: str, *options: str) -> int:
    """Run one of the scripts that people know: a command with options of its own before those that are given.

    ``about`` is the script's help. A recipe that is given takes the place of the script's, since recipes add up.
    """
    given = sys.argv[1:]
    if {"-h", "--help"} & set(given):
        print(about.strip())
        return 0
    own = list(options)
    if "--recipe" in own and any(len(w) > 4 and "--recipe".startswith(w.partition("=")[0]) for w in given):
        at = own.index("--recipe")
        del own[at : at + 2]
    return main([command, *own, *given])


def _python() -> str:
    """The interpreter as a person here would call it: relative where it lies below the working folder."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _one_line(message: str) -> str:
    """A message that quotes a path or an argument with a line break in it, in one line all the same."""
    return " ".join(message.splitlines())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="scaling_lib", description="Train small GPTs, fit scaling laws, draw what was found.")
    parser.add_argument("--version", action="version", version=f"scaling_lib {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, call: Any, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(call=call)
        return found

    plan = command("plan", plan_command, "Show a mode's runs, their FLOPs, memory and expected time; train nothing.")
    sweep_options(plan)
    run = command("run", run_command, "Train a mode's runs, then print tables, laws and verdicts, and draw a figure.")
    sweep_options(run)
    run.add_argument("--dry-run", action="store_true", help="show the plan and stop (the command plan)")
    run.add_argument("--force", action="store_true", help="forget this mode's records in the folder and start over")
    run.add_argument(
        "--checkpoint-seconds", type=positive(float), default=60.0, metavar="S",
        help="how often a run saves its state (default 60)",
    )  # fmt: skip
    summary = command("summary", _summary, "Print tables, laws and verdicts from a folder of run records.")
    summary.add_argument("folder", type=Path, help="such as runs/demo or results/v1-to-v2")
    summary.add_argument("--json", action="store_true", help="print JSON")
    figures = command("figures", _figures, "Draw the figures of a folder of run records.")
    figures.add_argument("folder", type=Path, nargs="+", help="such as results/v1-to-v2; one or more")
    figures.add_argument("--out", type=Path, metavar="DIR", help="where to (default: figures/NAME of the folder)")
    figures.add_argument(
        "--target", default="blog",
        help="blog, slides (16:9, large letters), paper, pptx: an editable talk of all the folders, or html: a page "
        "with sliders that needs no server, of published laws too: figures published --target html (default: blog)",
    )  # fmt: skip
    figures.add_argument("--format", default="png", help="png, svg, pdf; several with commas (default: png)")
    fit = command("fit", _fit, "Fit a law to a CSV table (columns N, D or C, loss) or a folder of run records.")
    fit.add_argument("source", type=Path, help="a .csv file, or a folder such as runs/demo")
    fit.add_argument("--law", default="auto", help="auto, power_n, power_d, chinchilla, ... (default: auto)")
    fit.add_argument(
        "--approach", choices=("law", "isoflop"), default="law",
        help="isoflop: a parabola for each budget, with the joint law's answer beside it (default: law)",
    )  # fmt: skip
    fit.add_argument("--recipe", help="which runs of a folder to pool; needed where it holds several recipes")
    fit.add_argument("--objective", default=None, help="log_mse, huber or lad (default: the law's own)")
    fit.add_argument("--delta", type=positive(float), metavar="X", help="threshold of the huber objective (1e-3)")
    fit.add_argument("--fixed", action="append", default=[], metavar="E=1.7", help="hold a parameter; may be repeated")
    fit.add_argument("--bootstrap", type=int, default=0, metavar="DRAWS", help="bootstrap draws (default: none)")
    fit.add_argument(
        "--predict", action="append", default=[], metavar="N=175e9,D=300e9",
        help="a target; of N, D, C two suffice, of a joint law C=1e22 means its best split; may be repeated",
    )  # fmt: skip
    fit.add_argument("--level", type=float, default=0.9, help="confidence of the intervals (default: 0.9)")
    fit.add_argument("--json", action="store_true", help="print JSON")
    table_options(fit)
    backtest = command(
        "backtest", _backtest, "Hide the largest models of a table, predict them from the rest, and compare."
    )
    backtest.add_argument(
        "source", nargs="?", help="cerebras, pythia, epoch, a .csv file, or a folder such as results/laptop"
    )
    backtest.add_argument("--all", action="store_true", help="score every table at hand, in Markdown (minutes)")
    backtest.add_argument("--law", help="of a .csv file or a folder: chinchilla, kaplan, power_mean, power_n, ...")
    backtest.add_argument(
        "--hide", metavar="K", help="of a .csv file: how many of the largest, or which, as in 'N>=1.5e9' (default: 1)"
    )
    table_options(backtest)
    predict_options(command("predict", predict_command, "Predict a loss at N, D or C, with intervals and a verdict."))
    compare_options(
        command("compare", compare_command, "Compare a quick look with a real sweep, or the recipes of one folder.")
    )
    next_options(command("next", next_command, "Which runs to train next for a target and a budget."))
    lab_options(command("lab", lab_command, "A game: spend a budget, seal a prediction of a large run, find out."))
    noise_options(command("noise", noise_command, "Are two recipes different? From runs that repeat with other seeds."))
    packing = command("pack", _pack, "Put the records of a folder into one file, runs.jsonl, with one record a line.")
    packing.add_argument("folder", type=Path, nargs="+", help="such as results/laptop; a sweep may go on there later")
    doctor = command("doctor", doctor_command, "Look at this machine: versions, speed, disk, and what will run here.")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _summary(args: argparse.Namespace) -> int:
    if args.json:
        from scaling_lib.show.studies import sweep_numbers
        from scaling_lib.sweep.recipes import peak_lr

        print(json.dumps(sweep_numbers(records(args.folder), peak_lr), indent=1, allow_nan=False))
    else:
        print_report(records(args.folder))
    return 0


def _figures(args: argparse.Namespace) -> int:
    formats = args.format.split(",")
    unknown = sorted(set(formats) - {"png", "svg", "pdf"})
    if unknown:
        raise InputError(f"unknown figure format {unknown[0]!r}; choose from png, svg, pdf")
    from scaling_lib.show import export
    from scaling_lib.sweep.recipes import peak_lr

    several = len(args.folder) > 1
    own = [folder.resolve().name for folder in args.folder]
    for name in own:
        if own.count(name) > 1 and args.target != "pptx":
            raise InputError(f"two folders are named {name}, and their figures would share one: draw them one by one")
    if args.target == "html":
        from scaling_lib.show import page

        if formats != ["png"]:
            raise InputError("--format is for pictures, and --target html makes a page: leave --format out")
        for folder, name in zip(args.folder, own, strict=True):
            is_published = folder == Path("published") and not folder.is_dir()
            text = page.published_page() if is_published else page.runs_page(records(folder), name)
            print(page.save_page(text, (args.out or Path("figures") / name) / f"{name}.html"))
        return 0
    sweeps = {folder: records(folder) for folder in args.folder}
    if args.target == "pptx":
        from scaling_lib.show.slides import save_talk

        if formats != ["png"]:
            raise InputError("--format is for pictures, and --target pptx makes a deck: leave --format out")
        out = args.out or Path("figures") / ("talk" if several else args.folder[0].resolve().name)
        print(save_talk([(str(folder), runs) for folder, runs in sweeps.items()], out, peak_lr))
        return 0
    for folder, runs in sweeps.items():
        out = Path("figures") if args.out is None else args.out
        if several or args.out is None:
            out = out / folder.resolve().name
        for path in export.save_set(runs, out, formats, args.target, peak_lr):
            print(path)
    return 0


def _fit(args: argparse.Namespace) -> int:
    from scaling_lib.fit.report import fit_table
    from scaling_lib.fit.table import read_table
    from scaling_lib.runs import check_poolable
    from scaling_lib.show.grids import run_table
    from scaling_lib.show.ladders import check_rates

    reading = reading_of(args)
    if args.source.is_dir():
        everything = records(args.source)
        runs = [r for r in everything if r.finished]
        if not runs:
            raise InputError(f"{args.source}: no run in the folder has finished, so there is nothing to fit")
        if reading:
            raise InputError(f"--{next(iter(reading))} is for .csv files; leave it out")
        approach = None if args.approach == "law" else args.approach
        wishes = (
            args.recipe
            or args.json
            or args.predict
            or args.objective
            or args.bootstrap
            or args.delta
            or args.fixed
            or approach
        )
        if not wishes and (args.law, args.level) == ("auto", 0.9):
            print_report(everything)
            return 0
        runs = _ladder_of(_of_one_recipe(runs, args.recipe), args.law)
        lost = [r.run_id for r in everything if not r.finished and r.config.train.recipe == runs[0].config.train.recipe]
        if lost:
            say(f"left out, not finished: {', '.join(lost)}")
        check_poolable(runs)
        check_rates(runs)
        source = run_table(runs, str(args.source))
    elif args.recipe:
        raise InputError(f"--recipe chooses among the runs of a folder; {args.source} is a table: leave it out")
    else:
        source = read_table(args.source, **reading)
    if args.approach == "isoflop":
        return _isoflop(args, source)
    options: dict[str, Any] = {"objective": args.objective, "delta": args.delta, "fixed": _fixed(args.fixed)}
    options = {name: value for name, value in options.items() if value}
    found = fit_table(source, law=args.law, bootstrap=args.bootstrap, predict=args.predict, level=args.level, **options)
    print(json.dumps(found.to_dict(), indent=1, allow_nan=False) if args.json else found.to_text())
    return 0


def _isoflop(args: argparse.Namespace, table: RunTable) -> int:
    """``fit --approach isoflop``: parabolas, and the joint law's answer beside them."""
    from scaling_lib.fit.report import about_reading, compare_with_joint, counts

    for option in ("objective", "delta", "fixed"):
        if getattr(args, option):
            raise InputError(f"--{option} is for --approach law; leave it out")
    targets = [counts(text) for text in args.predict]
    if any(set(at) != {"C"} for at in targets):
        raise InputError("--approach isoflop predicts the best size of a budget: write --predict C=1e21")
    found = compare_with_joint(table, [at["C"] for at in targets], level=args.level, bootstrap=args.bootstrap)
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False) if args.json else found.to_text()
    print(text if args.json else "\n".join([*about_reading(table), text]))
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


def _of_one_recipe(runs: list[Run], recipe: str | None) -> list[Run]:
    found = sorted({r.config.train.recipe for r in runs})
    if recipe is None and len(found) > 1:
        raise InputError(f"the folder holds several recipes ({', '.join(found)}); choose one with --recipe")
    if recipe is not None and recipe not in found:
        raise InputError(f"no runs of recipe {recipe!r} in the folder, which holds {', '.join(found)}")
    return [r for r in runs if recipe in (None, r.config.train.recipe)]


def _ladder_of(runs: list[Run], law: str) -> list[Run]:
    """For a law in one variable, the runs that differ in that variable alone; for a joint law, all."""
    from scaling_lib.show.ladders import find_ladders

    if not law.endswith(("_n", "_d")):  # power_n, broken_n, power_d, broken_d
        return runs
    variable = law[-1].upper()
    ladder = next((x for x in find_ladders(runs) if x.variable == variable), None)
    if ladder is None:
        raise InputError(f"law {law} needs three or more runs that differ in {variable} alone; the folder has none")
    say(f"the ladder in {variable}: {len(ladder.runs)} runs, {ladder.held}")
    return list(ladder.runs)


def _backtest(args: argparse.Namespace) -> int:
    from scaling_lib.fit import backtests
    from scaling_lib.fit.report import about_reading
    from scaling_lib.fit.table import read_table

    if args.all:
        from scaling_lib.fit.scoreboard import as_markdown, scoreboard

        if args.source or args.law or args.hide:
            raise InputError("--all takes every table, form and cut: leave the source, --law and --hide out")
        print(as_markdown(scoreboard()))
        return 0
    if args.source is None:
        raise InputError("name what to back-test: cerebras, pythia, epoch, a .csv file or a folder; or --all")
    reading = reading_of(args)
    if reading and args.source in ("cerebras", "pythia", "epoch"):
        raise InputError(f"--{next(iter(reading))} is for .csv files; leave it out")
    for option in ("hide", "law"):
        if getattr(args, option) is not None and args.source in ("cerebras", "pythia", "epoch"):
            raise InputError(f"{args.source} has its models and its law fixed; leave --{option} out")
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

        if reading:
            raise InputError(f"--{next(iter(reading))} is for .csv files; leave it out")
        if args.hide is not None:
            raise InputError("of a folder of runs the largest size and the longest runs are hidden; leave --hide out")
        print(the_grid(records(Path(args.source))).hold_out(args.law or "auto").summary(20))
    else:
        table = read_table(Path(args.source), **reading)
        for line in about_reading(table):
            say(line)
        hide = 1 if args.hide is None else int(args.hide) if args.hide.lstrip("+-").isdecimal() else args.hide
        print(backtests.backtest(table, hide=hide, law=args.law or "auto").summary())
    return 0


def _pack(args: argparse.Namespace) -> int:
    from scaling_lib.runs import PACKED
    from scaling_lib.sweep.pack import pack

    for folder in args.folder:
        print(f"{folder / PACKED}: {counted(pack(folder), 'record')}")
    return 0

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
from scaling_lib.errors import InputError
from scaling_lib.progress import Bar, duration

if TYPE_CHECKING:
    from scaling_lib.config import RunConfig
    from scaling_lib.runs import Run
    from scaling_lib.sweep.plan import Options, Plan


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, not the whole usage; exit 2."""
        self.exit(2, f"{self.prog}: {_one_line(message)}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = _parser().parse_args(argv)
    try:
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
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that the system refuses, such as a name that is too long
        where = f"{error.filename}: " if error.filename else ""
        print(f"scaling_lib: {_one_line(where + (error.strerror or str(error)))}", file=sys.stderr)
        return 2


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

    plan = command("plan", _plan, "Show the runs of a mode, their FLOPs, memory and expected time; train nothing.")
    _sweep_options(plan)
    run = command("run", _run, "Train the runs of a mode, then print tables, laws and verdicts, and draw a figure.")
    _sweep_options(run)
    run.add_argument("--dry-run", action="store_true", help="show the plan and stop (the command plan)")
    run.add_argument("--force", action="store_true", help="forget this mode's records in the folder and start over")
    run.add_argument(
        "--checkpoint-seconds", type=_positive(float), default=60.0, metavar="S",
        help="how often a run saves its state (default 60)",
    )  # fmt: skip
    summary = command("summary", _summary, "Print tables, laws and verdicts from a folder of run records.")
    summary.add_argument("folder", type=Path, help="such as runs/demo or results/v1-to-v2")
    figures = command("figures", _figures, "Draw the figure of a folder of run records.")
    figures.add_argument("folder", type=Path)
    figures.add_argument("--out", type=Path, metavar="DIR", help="where to (default: figures/NAME of the folder)")
    figures.add_argument("--format", default="png", help="png, svg, pdf; several with commas (default: png)")
    fit = command("fit", _fit, "Fit a law to a CSV table (columns N, D or C, loss) or a folder of run records.")
    fit.add_argument("source", type=Path, help="a .csv file, or a folder such as runs/demo")
    fit.add_argument("--law", default="auto", help="auto, power_n, power_d, chinchilla, ... (default: auto)")
    fit.add_argument("--recipe", help="which runs of a folder to pool; needed where it holds several recipes")
    fit.add_argument("--objective", default=None, help="log_mse, huber or lad (default: the law's own)")
    fit.add_argument("--bootstrap", type=int, default=0, metavar="DRAWS", help="bootstrap draws (default: none)")
    fit.add_argument(
        "--predict", action="append", default=[], metavar="N=175e9,D=300e9", help="a target; may be repeated"
    )
    fit.add_argument("--level", type=float, default=0.9, help="confidence of the intervals (default: 0.9)")
    fit.add_argument("--json", action="store_true", help="print JSON")
    backtest = command(
        "backtest", _backtest, "Hide the largest models of a table, predict them from the rest, and compare."
    )
    backtest.add_argument("source", help="cerebras, pythia, epoch, or a .csv file")
    backtest.add_argument("--hide", type=int, metavar="K", help="how many of the largest of a .csv file (default: 1)")
    return parser


def _sweep_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--mode", default="demo", help="demo, laptop, quick, standard, full, lr-study or seed-noise (default: demo)")
    add("--recipe", action="append", metavar="NAME", help="v1, v2, wsd, ...; may be repeated (default: the mode's)")
    add(
        "--max-steps",
        type=_positive(int),
        metavar="N",
        help="train for N steps instead of the mode's; a ladder in D spreads about it",
    )
    add("--corpus", metavar="SPEC", help="python-stdlib, python-env, random-walk, uniform, text:PATH or hub:ID")
    add("--vocab-size", type=_positive(int), metavar="V", help="size of the vocabulary, 257 to 65535")
    add(
        "--seeds",
        type=_positive(int),
        metavar="K",
        help="repeat every run with K seeds (default: the mode's, mostly 1)",
    )
    add("--sizes", type=_positive(int), metavar="K", help="only the K smallest sizes of the mode (default: all)")
    add("--lr", type=_positive(float), help="peak learning rate instead of the width rule's")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add("--dtype", default="auto", help="auto, float32 or bfloat16 (default: auto)")
    add("--compile", action=argparse.BooleanOptionalAction, help="torch.compile (default: where it pays)")
    add(
        "--workers",
        type=_positive(int),
        metavar="K",
        help="runs side by side (default: what suits their size)",
    )
    add("--out", type=Path, metavar="DIR", help="folder for the records (default: runs/MODE)")


def _positive(kind: type) -> Any:
    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not 0 < value < float("inf"):
            what = "a whole number of at least 1" if kind is int else "a number above 0"
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")
        return value

    return convert


def _cells(args: argparse.Namespace) -> list[RunConfig]:
    from scaling_lib.lm.corpus import check_spec
    from scaling_lib.sweep.recipes import cells

    found = cells(
        args.mode, recipes=args.recipe, max_steps=args.max_steps, corpus=args.corpus, vocab_size=args.vocab_size,
        seeds=None if args.seeds is None else range(args.seeds), lr=args.lr, sizes=args.sizes,
    )  # fmt: skip
    check_spec(found[0].corpus, found[0].model.vocab_size)
    return found


def _make_plan(args: argparse.Namespace, cells: list[RunConfig]) -> Plan:
    from scaling_lib.lm.runtime import choose_runtime
    from scaling_lib.sweep.plan import Options, make_plan

    # Chosen once here for its checks alone: a device that is absent is said before anything starts.
    runtime = choose_runtime(cells[-1], device=args.device, dtype=args.dtype)
    options: Options = Options(args.device, args.dtype, args.compile, args.workers)
    return make_plan(cells, options, on_gpu=runtime.device != "cpu")


def _plan(args: argparse.Namespace) -> int:
    from scaling_lib.counting import count_parameters, training_flops
    from scaling_lib.sweep.plan import calibrate, expected_seconds

    cells = _cells(args)
    plan = _make_plan(args, cells)
    _say("measuring the speed of this machine for about 10 s")
    seconds = calibrate(plan)
    print(
        f"{'recipe':>10} {'model':>8} {'parameters':>12} {'in all':>12} {'steps':>7} {'tokens':>12} "
        f"{'FLOPs':>9} {'alone':>8}"
    )
    for c in cells:
        n = count_parameters(c.model)
        print(
            f"{c.train.recipe:>10} {c.model.name:>8} {n.non_embedding:>12,} {n.total:>12,} {c.train.max_steps:>7,} "
            f"{c.n_tokens:>12,} {training_flops(c.model, c.n_tokens):>9.2g} "
            f"{duration(seconds[c.model] * c.n_tokens):>8}"
        )
    for phase in plan.phases:
        print(phase.why)
    print(
        f"{len(cells)} runs, {plan.flops:.2g} FLOPs, up to {plan.peak_bytes / 1e9:.1f} GB of memory, "
        f"about {duration(expected_seconds(plan, seconds))} on this machine"
    )
    return 0


def _run(args: argparse.Namespace) -> int:
    if args.dry_run:
        return _plan(args)
    from scaling_lib.config import run_id
    from scaling_lib.lm.batches import check_room
    from scaling_lib.lm.corpus import load_corpus
    from scaling_lib.sweep.execute import check_writable, run_sweep
    from scaling_lib.sweep.plan import calibrate, expected_seconds
    from scaling_lib.sweep.recipes import find_mode

    cells = _cells(args)
    plan = _make_plan(args, cells)
    out = args.out or _default_folder(args)
    check_writable(out)
    corpus = load_corpus(cells[0].corpus, cells[0].model.vocab_size, progress=sys.stderr.isatty())
    check_room(corpus, cells[0].train.batch_size, cells[0].model.seq_len)
    done = [c for c in cells if not args.force and (out / f"{run_id(c, corpus.fingerprint)}.json").exists()]
    cost = None
    if len(done) < len(cells):
        seconds = calibrate(plan, 3.0)
        cost = {c: seconds[c.model] * c.n_tokens for c in cells}
        _say(
            f"{args.mode}: {len(cells) - len(done)} runs to train on {corpus.name}, about "
            f"{duration(expected_seconds(plan, seconds, done))}; records in {out}"
        )
    with Bar() as bar:
        outcomes = run_sweep(
            plan, out, corpus, force=args.force, checkpoint_seconds=args.checkpoint_seconds, cost=cost,
            history_points=find_mode(args.mode).history_points, on_snapshot=bar.show,
        )  # fmt: skip
    skipped = sum(o.status == "skipped" for o in outcomes)
    if skipped:
        _say(f"{skipped} of {len(outcomes)} runs were finished before and are kept (--force trains them again)")
    failed = [o for o in outcomes if o.status == "failed"]
    for outcome in failed:
        _say(f"{outcome.run_id} failed: {outcome.message}")
    runs = _this_sweep(_records(out, allow_none=bool(failed)), {o.run_id for o in outcomes})
    if runs:
        from scaling_lib.show import export

        _print_report(runs)
        print(f"figure: {export.save_overview(runs, out, ['png'])[0]}")
        print(f"records: {out}")
    return 1 if failed else 0


def _default_folder(args: argparse.Namespace) -> Path:
    """``runs/MODE``, with the corpus in the name where it is not the mode's own: losses of two texts do not mix."""
    name = args.mode
    if args.corpus:
        name += "-" + "".join(c if c.isalnum() else "-" for c in Path(args.corpus).name).strip("-").lower()
    if args.vocab_size:
        name += f"-v{args.vocab_size}"
    return Path("runs") / name


def _records(folder: Path, allow_none: bool = False) -> list[Run]:
    from scaling_lib.runs import read_runs

    if allow_none and not list(folder.glob("*.json")):
        return []
    return read_runs(folder)


def _this_sweep(runs: list[Run], names: set[str]) -> list[Run]:
    """The runs of this call, and beside them those of other recipes in the folder that compare with them."""
    own = [r for r in runs if r.run_id in names]
    recipes = {r.config.train.recipe for r in own}
    comparable = {(r.corpus["fingerprint"], r.config.model.vocab_size) for r in own}
    return [
        r
        for r in runs
        if r.run_id in names
        or (r.config.train.recipe not in recipes and (r.corpus["fingerprint"], r.config.model.vocab_size) in comparable)
    ]


def _print_report(runs: Sequence[Run]) -> None:
    from scaling_lib.show.report import sweep_report

    print(sweep_report(runs))


def _summary(args: argparse.Namespace) -> int:
    _print_report(_records(args.folder))
    return 0


def _figures(args: argparse.Namespace) -> int:
    formats = args.format.split(",")
    unknown = sorted(set(formats) - {"png", "svg", "pdf"})
    if unknown:
        raise InputError(f"unknown figure format {unknown[0]!r}; choose from png, svg, pdf")
    from scaling_lib.show import export

    for path in export.save_overview(
        _records(args.folder), args.out or Path("figures") / args.folder.resolve().name, formats
    ):
        print(path)
    return 0


def _fit(args: argparse.Namespace) -> int:
    from scaling_lib.fit.report import fit_table
    from scaling_lib.fit.table import read_table, table_from_arrays
    from scaling_lib.runs import check_poolable, table

    if args.source.is_dir():
        everything = _records(args.source)
        runs = [r for r in everything if r.finished]
        if not runs:
            raise InputError(f"{args.source}: no run in the folder has finished, so there is nothing to fit")
        wishes = args.recipe or args.json or args.predict or args.objective or args.bootstrap
        if not wishes and (args.law, args.level) == ("auto", 0.9):
            _print_report(everything)
            return 0
        runs = _ladder_of(_of_one_recipe(runs, args.recipe), args.law)
        lost = [r.run_id for r in everything if not r.finished and r.config.train.recipe == runs[0].config.train.recipe]
        if lost:
            _say(f"left out, not finished: {', '.join(lost)}")
        check_poolable(runs)
        columns = table(runs)
        source = table_from_arrays(
            columns["val_loss"],
            n_params=columns["n_params_non_embedding"],
            n_tokens=columns["n_tokens"],
            source=str(args.source),
        )
    else:
        source = read_table(args.source)
    options = {} if args.objective is None else {"objective": args.objective}
    found = fit_table(source, law=args.law, bootstrap=args.bootstrap, predict=args.predict, level=args.level, **options)
    print(json.dumps(found.to_dict(), indent=1, allow_nan=False) if args.json else found.to_text())
    return 0


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
    _say(f"the ladder in {variable}: {len(ladder.runs)} runs, {ladder.held}")
    return list(ladder.runs)


def _backtest(args: argparse.Namespace) -> int:
    from scaling_lib.fit import backtests
    from scaling_lib.fit.table import read_table

    if args.hide is not None and args.source in ("cerebras", "pythia", "epoch"):
        raise InputError(f"{args.source} has fixed models to hide; leave --hide out, or give a .csv file")
    if args.source == "cerebras":
        for models, result in backtests.cerebras().items():
            print(f"The smallest {models} models\n{result.summary()}\n")
    elif args.source == "pythia":
        for convention, result in backtests.pythia().items():
            print(f"Counting {convention.replace('_', '-')} parameters\n{result.summary()}\n")
    elif args.source == "epoch":
        print(backtests.epoch().summary())
    else:
        hide = 1 if args.hide is None else args.hide
        print(backtests.backtest(read_table(Path(args.source)), hide=hide).summary())
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

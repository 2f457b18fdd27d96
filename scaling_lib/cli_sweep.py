"""The commands about a sweep: plan, run, and pack, which puts its records into one file. A part of the command line."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.cli_shared import command, option, positive, print_json, print_report, refuse, say
from scaling_lib.config import ModelConfig, RunConfig, run_id
from scaling_lib.counting import count_parameters, training_flops
from scaling_lib.errors import InputError
from scaling_lib.machine import cores, memory_bytes
from scaling_lib.progress import Bar
from scaling_lib.runs import PACKED, Run, has_records, is_recorded, read_runs, set_aside_damaged
from scaling_lib.sweep.engines import check_engine
from scaling_lib.sweep.execute import Outcome, check_writable, run_sweep, run_together
from scaling_lib.sweep.pack import pack
from scaling_lib.sweep.plan import Options, Plan, make_plan
from scaling_lib.sweep.recipes import cells as cells_of
from scaling_lib.sweep.recipes import find_mode, peak_lr
from scaling_lib.words import counted, duration, table

if TYPE_CHECKING:
    from scaling_lib.lm.corpus import Corpus


# Of plan and run.
PLAN = (
    option("--mode", default="demo",
        help="demo, laptop, quick, standard or full, or a study: lr-study, seed-noise, paired, "
        "coverage, known-entropy, tokenizers (default: demo)"),
    option("--recipe", action="append", metavar="NAME", help="v1, v2, wsd, ...; may be repeated (default: the mode's)"),
    option("--max-steps", type=positive(int), metavar="N",
        help="train for N steps instead of the mode's; a ladder in D spreads about it"),
    option("--corpus", metavar="SPEC",
        help="python-stdlib, python-env, text:PATH (a file, or a folder of UTF-8 text alone: any other file in it is "
        "refused), hub:ID, random-walk, hierarchy or uniform"),
    option("--vocab-size", type=positive(int), metavar="V", help="size of the vocabulary, 257 to 65535"),
    option("--seeds", type=positive(int), metavar="K",
        help="repeat every run with K seeds (default: the mode's, mostly 1)"),
    option("--sizes", type=positive(int), metavar="K", help="only the K smallest sizes of the mode (default: all)"),
    option("--lr", type=positive(float), help="peak learning rate instead of the width rule's"),
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)"),
    option("--dtype", default="auto", help="auto, float32 or bfloat16 (default: auto)"),
    option("--compile", action=argparse.BooleanOptionalAction, help="torch.compile (default: where it pays)"),
    option("--threads", type=positive(int), metavar="K", help="threads of each run (default: what suits its size)"),
    option("--workers", type=positive(int), metavar="K", help="runs side by side (default: what suits their size)"),
    option("--engine", default="local",
        help="local, dask or ray: this machine or an existing cluster (default: local)"),
    option("--address", help="of the cluster, such as tcp://HOST:8786 for dask; trusted networks only"),
    option("--max-flops", type=positive(float), metavar="X", help="leave out the largest runs until X FLOPs do"),
    option("--max-hours", type=positive(float), metavar="H", help="and until H hours on this machine do"),
    option("--out", type=Path, metavar="DIR", help="folder for the records (default: runs/MODE)"),
    option("--json", action="store_true", help="of a plan: print JSON, and the table on stderr"),
)  # fmt: skip


# ---- what both need


def _cells(args: argparse.Namespace) -> list[RunConfig]:
    from scaling_lib.lm.corpus import check_spec

    found = cells_of(
        args.mode, recipes=args.recipe, max_steps=args.max_steps, corpus=args.corpus, vocab_size=args.vocab_size,
        seeds=None if args.seeds is None else range(args.seeds), lr=args.lr, sizes=args.sizes,
    )  # fmt: skip
    check_spec(found[0].corpus, found[0].model.vocab_size)
    return found


def _options(args: argparse.Namespace, cells: Sequence[RunConfig]) -> Options:
    """How to compute; what can be found wrong in it is said before anything is written."""
    options = Options(args.device, args.dtype, args.compile, args.workers, args.engine, args.address, args.threads)
    check_engine(options)
    cores()  # which a variable of the environment may make nonsense of
    if args.engine != "local":
        refuse(args, "is for this machine; on a cluster its scheduler decides: leave it out", "workers", "max_hours")
    if (args.device, args.dtype) != ("auto", "auto"):  # which takes torch to judge
        options.runtime(cells[-1])
    return options


def _plan(
    args: argparse.Namespace, cells: Sequence[RunConfig], options: Options, done: Sequence[RunConfig], budget: float
) -> tuple[Plan, dict[ModelConfig, float]]:
    """What fits the budget, and the seconds per token of its models, measured in about ``budget`` seconds."""
    from scaling_lib.sweep.cost import calibrate, within_budget

    plan = make_plan(cells, replace(options, on_gpu=options.runtime(cells[-1]).device != "cpu"))
    seconds = calibrate(plan, budget)
    if args.max_flops is None and args.max_hours is None:
        return plan, seconds
    hours = None if args.max_hours is None else 3600 * args.max_hours
    plan, cut = within_budget(plan, seconds, done, max_flops=args.max_flops, max_seconds=hours)
    if cut:
        names = [f"{c.train.recipe} {c.model.name} {c.train.max_steps:,} steps" for c in cut]
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        say(f"left out to keep to the budget, {counted(len(cut), 'run')}: {', '.join(names[:6])}{more}")
    return plan, seconds


def _open_corpus(cells: Sequence[RunConfig], progress: bool) -> Corpus:
    from scaling_lib.lm.batches import check_room
    from scaling_lib.lm.corpus import load_corpus

    first = cells[0]
    corpus = load_corpus(first.corpus, first.model.vocab_size, progress=progress)
    check_room(corpus, first.train.batch_size, first.model.seq_len)
    return corpus


def _folder(args: argparse.Namespace) -> Path:
    """``--out``, or ``runs/MODE`` with the corpus in the name where it is not the mode's own: losses do not mix."""
    name = args.mode
    if args.corpus:
        name += "-" + "".join(c if c.isalnum() else "-" for c in Path(args.corpus).name).strip("-").lower()
    if args.vocab_size:
        name += f"-v{args.vocab_size}"
    return args.out or Path("runs") / name


# ---- plan


@command("plan", "Show a mode's runs, their FLOPs, memory and expected time; train nothing.", *PLAN)
def plan_command(args: argparse.Namespace) -> int:
    """``plan``: what would be trained, and what it would cost here."""
    from scaling_lib.sweep.cost import expected_seconds

    cells = _cells(args)
    options = _options(args, cells)
    if args.corpus and args.corpus.partition(":")[0] not in ("python-stdlib", "python-env", "hub"):
        _open_corpus(cells, sys.stderr.isatty())  # refused where it is too small, or not text to its end
    say("measuring the speed of this machine, for up to 10 s")
    done = [] if getattr(args, "force", False) else _recorded(_folder(args), cells)
    plan, seconds = _plan(args, cells, options, done, 10.0)
    cells = sorted(plan.cells, key=lambda c: (training_flops(c.model, c.n_tokens), c.train.recipe))
    rows: list[dict[str, Any]] = [
        {
            "recipe": c.train.recipe, "model": c.model.name,
            "n_params_non_embedding": (n := count_parameters(c.model)).non_embedding, "n_params": n.total,
            "lr": c.train.lr, "max_steps": c.train.max_steps, "n_tokens": c.n_tokens, "seed": c.train.seed,
            "flops": training_flops(c.model, c.n_tokens), "seconds": seconds[c.model] * c.n_tokens,
            "finished": c in done,
        }
        for c in cells
    ]  # fmt: skip
    columns = {
        "recipe": "{recipe}", "model": "{model}", "parameters": "{n_params_non_embedding:,}", "in all": "{n_params:,}",
        "rate": "{lr:.2g}", "steps": "{max_steps:,}", "tokens": "{n_tokens:,}", "FLOPs": "{flops:.2g}",
        "by itself": "{time}",
    }  # fmt: skip
    lines = [table([{**row, "time": duration(row["seconds"])} for row in rows], columns, left=2)]
    lines += [phase.why for phase in plan.phases]
    if args.engine == "local":
        memory = f"{memory_bytes() / 1e9:.1f} GB of memory"
        lines.append(f"of {counted(cores(), 'core')} and {memory} that this process may use")

    def computed(cell: RunConfig) -> tuple[int, int]:
        runtime = options.runtime(cell)
        return runtime.micro_batch or cell.train.batch_size, 2 if runtime.dtype == "bfloat16" else 4

    where = "on this machine" if args.engine == "local" else "one after another on this machine; a cluster divides it"
    finished = sum(row["finished"] for row in rows)
    memory_needed, expected = plan.peak_bytes(computed), expected_seconds(plan, seconds, done)
    lines.append(
        f"{counted(len(cells), 'run')}, {plan.flops:.2g} FLOPs, trunks shared, "
        f"up to {memory_needed / 1e9:.1f} GB of memory, about {duration(expected)} {where}"
        + (f"; {finished} are finished" if finished else "")
    )
    if args.json:
        say("\n".join(lines))
        what = {"expected_seconds": expected, "flops": plan.flops, "memory_bytes": memory_needed, "finished": finished}
        print_json({"mode": args.mode, **what, "phases": [phase.why for phase in plan.phases], "runs": rows})
    else:
        print("\n".join(lines))
    return 0


def _recorded(folder: Path, cells: Sequence[RunConfig]) -> list[RunConfig]:
    """The runs that have records, as far as can be told by their configuration without loading the corpus."""
    found = {r.config for r in read_runs(folder)} if has_records(folder) else set()
    return [c for c in cells if c in found]


# ---- run


@command(
    "run", "Train a mode's runs, then print tables, laws and verdicts, and draw a figure.",
    *PLAN,
    option("--dry-run", action="store_true", help="show the plan and stop (the command plan)"),
    option("--force", action="store_true", help="forget this mode's records in the folder and start over"),
    option("--checkpoint-seconds", type=positive(float), default=60.0, metavar="S",
        help="how often a run saves its state (default 60)"),
)  # fmt: skip
def run_command(args: argparse.Namespace) -> int:
    """``run``: train what is not there yet, then print and draw what the records say."""
    if args.dry_run:
        return plan_command(args)
    refuse(args, "is for a plan; add --dry-run", "json")
    if (size := _processes()) > 1:
        return _run_together(args, size)
    from scaling_lib.sweep.cost import expected_seconds, log_timing

    cells, out = _cells(args), _folder(args)
    options = _options(args, cells)
    check_writable(out)
    corpus = _open_corpus(cells, sys.stderr.isatty())
    names = {c: run_id(c, corpus.fingerprint) for c in cells}
    for aside in set_aside_damaged(out, names.values()):
        say(f"a damaged record is set aside as {aside}, and its run trained again")
    if has_records(out):
        read_runs(out)  # another that cannot be read is said now, not after hours of training
    done = [c for c in cells if not args.force and is_recorded(out, names[c])]
    if len(done) == len(cells):  # without loading torch
        every = "the one run was" if len(cells) == 1 else f"all {len(cells)} runs were"
        say(f"{every} finished before and kept (--force trains again)")
        return _conclude([Outcome(name, "skipped") for name in names.values()], out)
    plan, seconds = _plan(args, cells, options, done, 3.0)
    done = [c for c in done if c in plan.cells]
    expected, began = expected_seconds(plan, seconds, done), time.monotonic()
    what = f"{counted(len(plan.cells) - len(done), 'run')} to train on {corpus.name}"
    how_long = f"about {duration(expected)}" if args.engine == "local" else f"on the {args.engine} cluster"
    say(f"{args.mode}: {what}, {how_long}; records in {out}")
    with Bar() as bar:
        outcomes = run_sweep(
            plan, out, corpus, force=args.force, checkpoint_seconds=args.checkpoint_seconds,
            history_points=find_mode(args.mode).history_points, seconds_per_token=seconds, on_snapshot=bar.show,
        )  # fmt: skip
    took = time.monotonic() - began
    trained = sum(o.status in ("finished", "diverged") for o in outcomes)
    kept = {o.run_id for o in outcomes if o.status == "skipped"}  # of another launcher's too
    done = [c for c in plan.cells if names[c] in kept]
    expected = expected_seconds(plan, seconds, done)
    if trained and args.engine == "local":
        say(f"{counted(trained, 'run')} trained in {duration(took)}; {duration(expected)} were expected")
        try:
            log_timing(out, plan, done, runs=trained, expected=expected, seconds=took)
        except InputError as error:  # no reason to withhold the report
            say(str(error))
    if kept:
        say(f"{len(kept)} of {counted(len(outcomes), 'run')} finished before and kept (--force trains again)")
    return _conclude(outcomes, out)


def _processes() -> int:
    """How many processes torchrun has started, with this one; 1 without it."""
    size = (os.environ.get("WORLD_SIZE") or "1") if os.environ.get("LOCAL_RANK") else "1"
    if not (size.isdecimal() and int(size) > 0):
        raise InputError(f"WORLD_SIZE is {size!r}, not a number of processes: start them with torchrun, or unset it")
    return int(size)


def _run_together(args: argparse.Namespace, size: int) -> int:
    """``run`` under torchrun: every process trains its share of every batch, the first one writes and speaks."""
    from scaling_lib.lm.group import join_group, leave_group

    refuse(args, "is not for torchrun; leave it out", "force", "max_flops", "max_hours", "workers", "address")
    cells, out = _cells(args), _folder(args)
    batch_size = cells[0].train.batch_size
    if batch_size % size:
        raise InputError(f"a batch of {batch_size} sequences does not divide among {size} processes")
    options = _options(args, cells)
    device = options.runtime(cells[-1]).device
    plan = make_plan(cells, replace(options, on_gpu=device != "cpu"))
    group = join_group(device)
    try:
        if group.leads:
            _open_corpus(cells, sys.stderr.isatty())
        group.agree(None)  # the others wait until it is in the cache
        corpus = _open_corpus(cells, False)
        if not group.all_true(corpus.fingerprint == group.agree(corpus.fingerprint)):
            raise InputError(
                f"{corpus.name} is not the same text on all machines: same packages everywhere, or text:PATH"
            )
        if group.leads:
            what = f"{counted(len(cells), 'run')} on {corpus.name}, each by {group.size} processes"
            say(f"{args.mode}: {what}; records in {out}")
        outcomes = run_together(
            plan, out, corpus, group, checkpoint_seconds=args.checkpoint_seconds,
            history_points=find_mode(args.mode).history_points,
        )  # fmt: skip
    finally:
        leave_group()
    return _conclude(outcomes, out) if group.leads else 0


def _conclude(outcomes: Sequence[Outcome], out: Path) -> int:
    """Say what failed, print the report, draw the figure; the exit status."""
    failed = [o for o in outcomes if o.status == "failed"]
    for outcome in failed:
        say(f"{outcome.run_id} failed: {outcome.message}")
    runs = _this_sweep(read_runs(out), {o.run_id for o in outcomes}) if not failed or has_records(out) else []
    if runs:
        from scaling_lib.show import export

        print_report(runs)
        print(f"figure: {export.save_main(runs, out, ['png'], peak_lr)[0]}")
        print(f"records: {out}")
    return 1 if failed else 0


def _this_sweep(runs: list[Run], names: set[str]) -> list[Run]:
    """The runs of this call, and beside them those of other recipes in the folder that compare with them."""

    def text(run: Run) -> tuple[str, int]:
        return run.corpus["fingerprint"], run.config.model.vocab_size

    own = [r for r in runs if r.run_id in names]
    recipes, comparable = {r.config.train.recipe for r in own}, {text(r) for r in own}
    return [r for r in runs if r.run_id in names or (r.config.train.recipe not in recipes and text(r) in comparable)]


# ---- pack


@command(
    "pack", "Put the records of a folder into one file, runs.jsonl, with one record a line.",
    option("folder", type=Path, nargs="+", help="such as results/laptop; a sweep may go on there later"),
)  # fmt: skip
def pack_command(args: argparse.Namespace) -> int:
    """``pack``: the records of each folder into one file."""
    for folder in args.folder:
        print(f"{folder / PACKED}: {counted(pack(folder), 'record')}")
    return 0

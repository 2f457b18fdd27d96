"""The command ``predict``: a loss at N, D or C, with its intervals and a verdict. A part of the command line."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from typing import Any

from scaling_lib.cli_shared import reading_of, table_options
from scaling_lib.errors import InputError

DEFAULT_TARGETS = ("GPT-3", "GPT-4", "Llama 3")


def predict_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``predict``."""
    add = parser.add_argument
    add("source", help="a folder such as results/laptop, a .csv file (columns N, D or C, loss), or a published law")
    add(
        "--target", action="append", metavar="WHERE",
        help="N=1e9,D=2e10 (of N, D, C two suffice), N=1e9 or D=2e10 alone, C=1e21 (its best split), or a model by "
        "name, such as GPT-3; may be repeated (default: GPT-3, GPT-4 as rumoured, Llama 3)",
    )  # fmt: skip
    add("--recipe", help="whose runs of a folder (default: the last on the way from V1 to V2, or wsd)")
    add("--law", default="auto", help="of a .csv file: power_n, power_d, power_c, chinchilla, ... (default: auto)")
    add("--level", type=float, default=0.9, help="confidence of the intervals (default: 0.9)")
    add("--json", action="store_true", help="print JSON")
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
        print(json.dumps(plain({**about, "answers": [asdict(a) for a in found]}), indent=1, allow_nan=False))
    else:
        print(in_words(source, found, args.level))
    return 0


def plain(value: Any) -> Any:
    """As JSON knows it: a number without an end becomes null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

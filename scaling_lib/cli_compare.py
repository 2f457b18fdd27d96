"""The command ``compare``: two tables and a figure about two sweeps. A part of the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling_lib.cli_predict import plain
from scaling_lib.cli_shared import records
from scaling_lib.errors import InputError
from scaling_lib.runs import has_records

if TYPE_CHECKING:
    from scaling_lib.show.versus import Versus

RESULTS = Path(__file__).resolve().parents[1] / "results"  # the committed sweeps, where the repository is at hand
QUICK_LOOKS = ("runs/demo", "v1-to-v2")  # without a slash: a committed sweep
REAL_SWEEPS = ("runs/full", "runs/standard", "runs/quick", "runs/laptop", "laptop")


def compare_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``compare``."""
    add = parser.add_argument
    add(
        "folders", nargs="*", type=Path, metavar="FOLDER",
        help="a quick look and a real sweep, such as runs/demo runs/quick; or one folder, whose recipes are compared; "
        "or none: the demo's and the largest sweep that there is, else the committed ones",
    )  # fmt: skip
    add("--recipe", action="append", default=[], metavar="NAME",
        help="of two folders the recipe to take (default: the last that both have); of one folder, which ones; "
        "may be repeated")  # fmt: skip
    add("--out", type=Path, default=Path("figures"), metavar="DIR", help="folder for the figure (default: figures)")
    add("--json", action="store_true", help="print JSON")


def compare_command(args: argparse.Namespace) -> int:
    """``compare``: print the tables, draw the figure and print its path, for every comparison asked for."""
    from scaling_lib.show import versus

    if len(args.folders) > 2:
        raise InputError(f"compare takes one folder or two, not {len(args.folders)}")
    made = [(v, _draw(v, args.out)) for v in (_asked(args) if args.folders else _at_hand(args))]
    if args.json:
        found: list[dict[str, Any]] = [{**versus.to_dict(v), "figure": str(path)} for v, path in made]
        print(json.dumps(plain(found), indent=1, allow_nan=False))
        return 0
    for i, (v, path) in enumerate(made):
        print(("\n" if i else "") + _title(v))
        print(f"\n{versus.tables(v)}\n\nfigure: {path}")
    return 0


def _title(v: Versus) -> str:
    title = f"The recipes of {v.name}" if v.of_recipes else f"A quick look and a real sweep: {v.name}"
    if v.tokenizers:
        title = f"One text, two vocabularies: {v.name}"
    return f"{title}\n{'=' * len(title)}"


def _asked(args: argparse.Namespace) -> list[Versus]:
    from scaling_lib.show.versus import compare_recipes, compare_sweeps

    runs = [records(folder) for folder in args.folders]
    if len(runs) == 1:
        return [compare_recipes(runs[0], str(args.folders[0]), args.recipe)]
    if len(args.recipe) > 1:
        raise InputError("of two folders one --recipe is compared; to compare recipes, name one folder")
    names = _short_names(args.folders[0], args.folders[1])
    return [compare_sweeps(runs[0], runs[1], names, args.recipe[0] if args.recipe else "")]


def _short_names(first: Path, second: Path) -> tuple[str, str]:
    """The folders' last names, or their whole paths where those are equal."""
    a, b = first.resolve().name, second.resolve().name
    return (a, b) if a != b else (str(first), str(second))


def _at_hand(args: argparse.Namespace) -> list[Versus]:
    """The quick look and the largest sweep that are here: the recipes of each, then the one against the other."""
    from scaling_lib.show.versus import compare_recipes, compare_sweeps

    found = [_first(QUICK_LOOKS), _first(REAL_SWEEPS)]
    if args.recipe:
        raise InputError("--recipe goes with folders: name one or two, such as runs/demo runs/quick")
    runs = [records(folder) for folder in found]
    made = [
        compare_recipes(own, str(folder))
        for folder, own in zip(found, runs, strict=True)
        if len({r.config.train.recipe for r in own}) > 1
    ]
    return [*made, compare_sweeps(runs[0], runs[1], _short_names(found[0], found[1]))]


def _first(names: tuple[str, ...]) -> Path:
    """The first of the folders that holds records."""
    for name in names:
        folder = Path(name) if "/" in name else RESULTS / name
        if has_records(folder):
            return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    raise InputError(
        f"none of {', '.join(names)} holds run records: name the folders to compare, or run the demo first"
    )


def _draw(v: Versus, out: Path) -> Path:
    from scaling_lib.show import export
    from scaling_lib.show.figures import Named
    from scaling_lib.show.versus import plot_versus

    words = "-".join(v.name.replace(" against ", "-").replace("/", "-").split()).strip("-.")
    named = Named(
        f"compare-{words}",
        lambda figure: (plot_versus(v, figure), None)[1],
        f"{v.name}: exponents with their 90% intervals, and the losses that they rest on.",
        "Exponents with their intervals, and beside them the losses against size and tokens with the fitted laws.",
        tall=True,
    )
    return export.save_named(named, out, ["png"], "blog")[0]

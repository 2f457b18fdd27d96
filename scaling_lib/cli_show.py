"""The commands that show records: summary, figures and compare. A part of the command line."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.cli_shared import FIGURES, JSON, command, option, print_json, print_report, save_figure
from scaling_lib.errors import InputError
from scaling_lib.files import write_atomically
from scaling_lib.runs import RESULTS, Run, has_records, read_runs
from scaling_lib.sweep.recipes import peak_lr
from scaling_lib.words import printable

if TYPE_CHECKING:
    from scaling_lib.show.versus import Versus

QUICK_LOOKS = ("runs/demo", "v1-to-v2")  # without a slash: a committed sweep
REAL_SWEEPS = ("runs/full", "runs/standard", "runs/quick", "runs/laptop", "laptop")


@command(
    "summary", "Print tables, laws and verdicts from a folder of run records.",
    option("folder", type=Path, help="such as runs/demo or results/v1-to-v2"),
    JSON,
)  # fmt: skip
def summary_command(args: argparse.Namespace) -> int:
    """``summary``: the report of a folder of records."""
    if args.json:
        from scaling_lib.show.studies import sweep_numbers

        print_json(sweep_numbers(read_runs(args.folder), peak_lr))
    else:
        print_report(read_runs(args.folder))
    return 0


# ---- figures


@command(
    "figures", "Draw the figures of a folder of run records.",
    option("folder", type=Path, nargs="+", help="such as results/v1-to-v2; one or more; or published: laws of others"),
    option("--out", type=Path, metavar="DIR", help="where to (default: figures/NAME of the folder)"),
    option("--target", default="blog",
        help="blog, slides (16:9, large letters), paper, pptx: an editable talk of all the folders, or html: a page "
        "with sliders that needs no server (default: blog)"),
    option("--format", default="png", help="png, svg, pdf; several with commas (default: png)"),
)  # fmt: skip
def figures_command(args: argparse.Namespace) -> int:
    """``figures``: every figure of each folder, or one page or talk; prints the paths."""
    formats = args.format.split(",")
    unknown = sorted(set(formats) - {"png", "svg", "pdf"})
    if unknown:
        raise InputError(f"unknown figure format {unknown[0]!r}; choose from png, svg, pdf")
    if args.target in ("html", "pptx") and formats != ["png"]:
        raise InputError(f"--format is for pictures, and --target {args.target} makes none: leave --format out")
    from scaling_lib.show.export import TARGETS

    if args.target not in (*TARGETS, "html", "pptx"):
        raise InputError(f"unknown target {args.target!r}; choose from {', '.join(TARGETS)}, html, pptx")
    own = [folder.resolve().name for folder in args.folder]
    for name in own:
        if own.count(name) > 1 and args.target != "pptx":
            raise InputError(f"two folders are named {name}, and their figures would share one: draw each with --out")
    draw = {"html": _pages, "pptx": _talk}.get(args.target, _pictures)
    for path in draw(args, own, [None if _is_published(folder) else read_runs(folder) for folder in args.folder]):
        print(path)
    return 0


def _is_published(folder: Path) -> bool:
    return folder == Path("published") and not folder.is_dir()


def _seen_from(place: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(folder, place)).as_posix()
    except ValueError:  # on another drive of Windows
        return folder.as_posix()


def _claim(out: Path, kind: str, folders: list[Path]) -> Callable[[], None]:
    """What notes that the folder holds these pictures, page or talk; refused where it holds those of others.

    ``.drawn.json`` there says whose they are, by a path that holds when both are moved together. It is hidden from the
    reader of records, for figures may be drawn into the folder of their own records.
    """
    note, claims = out / ".drawn.json", {}
    with suppress(OSError, ValueError, AttributeError, RecursionError):  # none yet, or one that nobody can read
        found = json.loads(note.read_text(encoding="utf-8")).items()
        claims = {what: list(map(str, owners)) for what, owners in found if isinstance(owners, list) and owners}
    own = sorted("published" if _is_published(f) else _seen_from(out.resolve(), f.resolve()) for f in folders)
    if claims.get(kind, own) != own:
        theirs = printable(" ".join(claims[kind]))
        raise InputError(
            f"{printable(str(out))} holds the {kind} of {theirs} (as seen from there), which these would replace: "
            "choose another folder with --out, or remove that one"
        )
    return lambda: write_atomically(note, json.dumps(claims | {kind: own}, indent=1).encode())


def _pages(args: argparse.Namespace, names: list[str], sweeps: list[list[Run] | None]) -> Iterator[Path]:
    from scaling_lib.show import page

    for folder, name, runs in zip(args.folder, names, sweeps, strict=True):
        text = page.published_page() if runs is None else page.runs_page(runs, printable(name))
        out = args.out or Path("figures") / name
        claim = None if runs is None else _claim(out, f"page {name}", [folder])  # the published page is all alike
        path = page.save_page(text, out / f"{name}.html")
        if claim:
            claim()
        yield path


def _talk(args: argparse.Namespace, names: list[str], sweeps: list[list[Run] | None]) -> Iterator[Path]:
    from scaling_lib.show.deck import save_slides
    from scaling_lib.show.slides import talk

    named = [printable(str(folder)) for folder in args.folder]
    told = [(name, runs) for name, runs in zip(named, sweeps, strict=True) if runs is not None]
    out = args.out or Path("figures") / "-".join(["talk", *names] if len(names) > 1 else names)[:100]
    claim = _claim(out, "talk", args.folder)
    path = save_slides(talk(told, peak_lr), out / "talk.pptx")
    claim()
    yield path


def _pictures(args: argparse.Namespace, names: list[str], sweeps: list[list[Run] | None]) -> Iterator[Path]:
    from scaling_lib.show.export import save_pictures
    from scaling_lib.show.figures import sweep_stories
    from scaling_lib.show.slides import back_tests, published_stories

    for folder, name, runs in zip(args.folder, names, sweeps, strict=True):
        out = args.out if args.out and len(names) == 1 else (args.out or Path("figures")) / name
        claim = _claim(out, "pictures", [folder])
        stories = published_stories() if runs is None else [*sweep_stories(runs, peak_lr), back_tests()]
        for path in save_pictures(stories, out, args.format.split(","), args.target):
            claim()
            yield path


# ---- compare


@command(
    "compare", "Compare a quick look with a real sweep, or the recipes of one folder.",
    option("folders", nargs="*", type=Path, metavar="FOLDER",
        help="a quick look and a real sweep, such as runs/demo runs/quick; or one folder, whose recipes are compared; "
        "or none: the demo's and the largest sweep that there is, else the committed ones"),
    option("--recipe", action="append", default=[], metavar="NAME",
        help="of two folders the recipe to take (default: the last that both have); of one folder, which ones; "
        "may be repeated"),
    FIGURES,
    JSON,
)  # fmt: skip
def compare_command(args: argparse.Namespace) -> int:
    """``compare``: print the tables, draw the figure and print its path, for every comparison asked for."""
    from scaling_lib.show import versus

    if len(args.folders) > 2:
        raise InputError(f"compare takes one folder or two, not {len(args.folders)}")
    made = [(v, _draw(v, args.out)) for v in (_asked(args) if args.folders else _at_hand(args))]
    if args.json:
        print_json([{**versus.to_dict(v), "figure": str(path)} for v, path in made])
        return 0
    for i, (v, path) in enumerate(made):
        title = f"The recipes of {v.name}" if v.of_recipes else f"A quick look and a real sweep: {v.name}"
        if v.tokenizers:
            title = f"One text, two vocabularies: {v.name}"
        print(("\n" if i else "") + f"{title}\n{'=' * len(title)}\n\n{versus.tables(v)}\n\nfigure: {path}")
    return 0


def _asked(args: argparse.Namespace) -> list[Versus]:
    from scaling_lib.show.versus import compare_recipes, compare_sweeps

    runs = [read_runs(folder) for folder in args.folders]
    if len(runs) == 1:
        return [compare_recipes(runs[0], str(args.folders[0]), args.recipe)]
    if len(args.recipe) > 1:
        raise InputError("of two folders one --recipe is compared; to compare recipes, name one folder")
    return [compare_sweeps(runs[0], runs[1], _short_names(*args.folders), args.recipe[0] if args.recipe else "")]


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
    runs = [read_runs(folder) for folder in found]
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
    from scaling_lib.show.versus import plot_versus

    words = "-".join(v.name.replace(" against ", "-").replace("/", "-").split()).strip("-.")
    return save_figure(f"compare-{words}", lambda figure: plot_versus(v, figure), out, tall=True)

"""Stories as files: pictures, whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scaling_lib.errors import InputError
from scaling_lib.files import atomic_file, write_atomically
from scaling_lib.runs import Run
from scaling_lib.show.figures import Rule, sweep_stories
from scaling_lib.show.story import Story

# Without a date, so that the same records give the same bytes.
NO_DATE: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
# Style sheet, and inches for figures of one row and of two.
TARGETS = {
    "blog": ((9.0, 5.0), (11.0, 8.0)),
    "slides": ((13.333, 7.5), (13.333, 7.5)),
    "paper": ((5.5, 3.4), (6.75, 5.0)),
}
# Fonts with Chinese, Japanese or Korean characters that systems bring along, for names of files and folders.
EASTERN = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS",
    "Microsoft YaHei", "SimHei", "Malgun Gothic",
)  # fmt: skip
# Four panels on one slide want smaller letters than one.
SMALLER = {"font.size": 14, "axes.titlesize": 15, "axes.labelsize": 14, "legend.fontsize": 14, "lines.linewidth": 2.2,
           "lines.markersize": 7}  # fmt: skip


def save_main(runs: Sequence[Run], out: Path, formats: Sequence[str], rule: Rule | None = None) -> list[Path]:
    """Draw the sweep's main figure into ``out/<its name>.<format>`` for every format; returns the paths.

    Needs no screen. ``rule`` as in `sweep_stories`. Raises ``InputError`` when the folder cannot be written.
    """
    return save_picture(next(sweep_stories(runs, rule)), out, formats, "blog")


def save_pictures(stories: Iterable[Story], out: Path, formats: Sequence[str], target: str = "blog") -> list[Path]:
    """Draw every story that has a name, and beside each a ``.txt`` with its words; returns the paths.

    ``target``: ``"blog"``, ``"slides"`` (16:9, 2,666 x 1,500 pixels) or ``"paper"``. Raises ``InputError`` for another
    one, or when the folder cannot be written.
    """
    if target not in TARGETS:
        raise InputError(f"unknown target {target!r}; choose from {', '.join(TARGETS)}")
    paths: list[Path] = []
    for story in (s for s in stories if s.name):
        paths += [*save_picture(story, out, formats, target), out / f"{story.name}.txt"]
        words = (story.headline, story.caption, f"Description: {story.alt}", story.notes and f"Notes: {story.notes}")
        write_atomically(paths[-1], ("\n\n".join(filter(None, words)) + "\n").encode())
    return paths


def save_picture(story: Story, out: Path, formats: Sequence[str], target: str) -> list[Path]:
    """Draw one story into files; the caller's backend and open figures stay as they are."""
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    assert callable(story.figure)
    paths = [out / f"{story.name}.{kind}" for kind in formats]
    style: list[str | dict[str, Any]] = [f"scaling_lib.show.styles.{name}" for name in dict.fromkeys(("blog", target))]
    if story.tall and target == "slides":
        style.append(SMALLER)
    have = {font.name for font in fontManager.ttflist}
    style.append({"font.family": ["sans-serif", *(name for name in EASTERN if name in have)]})
    # From the defaults on, whatever the user's matplotlibrc says: it may ask for TeX, which few have.
    with matplotlib.style.context(style, after_reset=True), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure = Figure(figsize=TARGETS[target][story.tall])
        story.figure(figure)
        for text in figure.findobj(Text):
            if "$" in text.get_text():  # of a folder or a file: our own words have no formulas
                text.set_parse_math(False)
        for path, kind in zip(paths, formats, strict=True):
            with atomic_file(path) as file:
                figure.savefig(file, format=kind, metadata=NO_DATE.get(kind))
    boxes = [w for w in said if "missing from font" in str(w.message)]
    for warning in (w for w in said if w not in boxes):
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if boxes:
        warnings.warn(f"{paths[0]}: no font here has all characters of a name; boxes stand for them", stacklevel=2)
    return paths

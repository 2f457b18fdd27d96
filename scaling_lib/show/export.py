"""Figures as files: whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling_lib.errors import InputError
from scaling_lib.files import atomic_file, write_atomically
from scaling_lib.runs import Run
from scaling_lib.show.figures import Named, figure_set, main_figure

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
SMALLER = {
    "font.size": 14, "axes.titlesize": 15, "axes.labelsize": 14, "legend.fontsize": 14, "lines.linewidth": 2.2,
    "lines.markersize": 7,
}  # fmt: skip


def save_main(
    runs: Sequence[Run], out: Path, formats: Sequence[str], rule: Callable[[int], float] | None = None
) -> list[Path]:
    """Draw the sweep's main figure into ``out/<its name>.<format>`` for every format; returns the paths.

    Needs no screen. ``rule`` as in ``figures.main_figure``. Raises ``InputError`` when the folder cannot be written.
    """
    return save_named(main_figure(runs, rule), out, formats, "blog")


def save_set(
    runs: Sequence[Run],
    out: Path,
    formats: Sequence[str],
    target: str = "blog",
    rule: Callable[[int], float] | None = None,
) -> list[Path]:
    """Draw every named figure of a sweep, and beside each a ``.txt`` with its caption and its description.

    ``target``: ``"blog"``, ``"slides"`` (16:9, 2,666 x 1,500 pixels) or ``"paper"``; else as ``save_main``. Raises
    ``InputError`` for an unknown target too.
    """
    if target not in TARGETS:
        raise InputError(f"unknown target {target!r}; choose from {', '.join(TARGETS)}")
    paths = []
    for named in figure_set(runs, rule):
        paths += save_named(named, out, formats, target)
        text = out / f"{named.name}.txt"
        write_atomically(text, f"{named.caption}\n\nDescription: {named.alt}\n".encode())
        paths.append(text)
    return paths


def save_named(named: Named, out: Path, formats: Sequence[str], target: str) -> list[Path]:
    """Draw one figure into files; the caller's backend and open figures stay as they are."""
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    paths = []
    have = {font.name for font in fontManager.ttflist}
    fonts = {"font.family": ["sans-serif", *(name for name in EASTERN if name in have)]}
    # Four panels on one slide want smaller letters than one.
    smaller = SMALLER if named.tall and target == "slides" else {}
    style = [f"scaling_lib.show.styles.{target}", smaller, fonts]
    # From the defaults on, whatever the user's matplotlibrc says: it may ask for TeX, which few have.
    with matplotlib.style.context(style, after_reset=True), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure = Figure(figsize=TARGETS[target][named.tall])
        named.draw(figure)
        for text in figure.findobj(Text):
            if "$" in text.get_text():  # of a folder or a file: our own words have no formulas
                text.set_parse_math(False)
        for kind in formats:
            path = out / f"{named.name}.{kind}"
            with atomic_file(path) as file:
                figure.savefig(file, format=kind, metadata=NO_DATE.get(kind))
            paths.append(path)
    boxes = [w for w in said if "missing from font" in str(w.message)]
    for warning in (w for w in said if w not in boxes):
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if boxes:
        warnings.warn(f"{paths[0]}: no font here has all characters of a name; boxes stand for them", stacklevel=2)
    return paths

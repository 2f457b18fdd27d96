"""Figures as files: whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.errors import InputError
from scaling_lib.files import atomic_file, write_atomically
from scaling_lib.runs import Run
from scaling_lib.show.figures import figure_set
from scaling_lib.show.plot import plot_overview
from scaling_lib.show.rates import plot_rates, rate_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Without a date, so that the same records give the same bytes.
NO_DATE: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


# Style sheet, and inches for figures of one row and of two.
TARGETS = {
    "blog": ((9.0, 5.0), (11.0, 8.0)),
    "slides": ((13.333, 7.5), (13.333, 7.5)),
    "paper": ((5.5, 3.4), (6.75, 5.0)),
}

SMALLER = {
    "font.size": 13, "axes.titlesize": 15, "axes.labelsize": 13, "legend.fontsize": 10, "lines.linewidth": 2.2,
    "lines.markersize": 7,
}  # fmt: skip


def save_overview(runs: Sequence[Run], out: Path, formats: Sequence[str]) -> list[Path]:
    """Draw the overview of a sweep into ``out/overview.<format>`` for every format; returns the paths.

    Needs no screen. Raises ``InputError`` when the folder cannot be written.
    """
    return _save(lambda figure: plot_overview(runs, figure), out, "overview", formats)


def save_rates(runs: Sequence[Run], rule: Callable[[int], float], out: Path, formats: Sequence[str]) -> list[Path]:
    """Draw a study of learning rates into ``out/rates.<format>``; else as ``save_overview``."""
    return _save(lambda figure: plot_rates(runs, rule, figure), out, "rates", formats)


def save_set(
    runs: Sequence[Run],
    out: Path,
    formats: Sequence[str],
    target: str = "blog",
    rule: Callable[[int], float] | None = None,
) -> list[Path]:
    """Draw every named figure of a sweep, and beside each a ``.txt`` with its caption and its description.

    Parameters
    ----------
    target : ``"blog"``, ``"slides"`` (16:9, 2,666 x 1,500 pixels) or ``"paper"``.
    rule : the width rule, for a study of learning rates: then the figure is ``rates`` alone.

    Raises
    ------
    InputError
        For an unknown target; when the folder cannot be written.
    """
    if target not in TARGETS:
        raise InputError(f"unknown target {target!r}; choose from {', '.join(TARGETS)}")
    if rule is not None:
        text = out / "rates.txt"
        write_atomically(text, rate_report(runs, rule).encode())
        return [*_save(lambda figure: plot_rates(runs, rule, figure), out, "rates", formats, target), text]
    paths = []
    for named in figure_set(runs):
        paths += _save(named.draw, out, named.name, formats, target, tall=named.tall)
        text = out / f"{named.name}.txt"
        write_atomically(text, f"{named.caption}\n\nDescription: {named.alt}\n".encode())
        paths.append(text)
    return paths


def _save(
    draw: Callable[[Figure], object], out: Path, name: str, formats: Sequence[str], target: str = "blog",
    *, tall: bool = True,
) -> list[Path]:  # fmt: skip
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    paths = []
    # Four panels on one slide want smaller letters than one.
    smaller = SMALLER if tall and target == "slides" else {}
    with plt.style.context([f"scaling_lib.show.styles.{target}", smaller]):
        figure = plt.figure(figsize=TARGETS[target][tall])
        try:
            draw(figure)
            for kind in formats:
                path = out / f"{name}.{kind}"
                with atomic_file(path) as file:
                    figure.savefig(file, format=kind, metadata=NO_DATE.get(kind))
                paths.append(path)
        finally:
            plt.close(figure)
    return paths

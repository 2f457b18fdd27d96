"""Figures as files: whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.files import atomic_file
from scaling_lib.runs import Run
from scaling_lib.show.plot import plot_overview
from scaling_lib.show.rates import plot_rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Without a date, so that the same records give the same bytes.
NO_DATE: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save_overview(runs: Sequence[Run], out: Path, formats: Sequence[str]) -> list[Path]:
    """Draw the overview of a sweep into ``out/overview.<format>`` for every format; returns the paths.

    Needs no screen. Raises ``InputError`` when the folder cannot be written.
    """
    return _save(lambda: plot_overview(runs), out, "overview", formats)


def save_rates(runs: Sequence[Run], rule: Callable[[int], float], out: Path, formats: Sequence[str]) -> list[Path]:
    """Draw a study of learning rates into ``out/rates.<format>``; else as ``save_overview``."""
    return _save(lambda: plot_rates(runs, rule), out, "rates", formats)


def _save(draw: Callable[[], Figure], out: Path, name: str, formats: Sequence[str]) -> list[Path]:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    paths = []
    with plt.style.context("scaling_lib.show.styles.blog"):
        figure = draw()
        for kind in formats:
            path = out / f"{name}.{kind}"
            with atomic_file(path) as file:
                figure.savefig(file, format=kind, metadata=NO_DATE.get(kind))
            paths.append(path)
        plt.close(figure)
    return paths

"""Figures as files: whole or not at all, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaling_lib.files import atomic_file
from scaling_lib.runs import Run
from scaling_lib.show.plot import plot_overview

# Without a date, so that the same records give the same bytes.
NO_DATE: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save_overview(runs: Sequence[Run], out: Path, formats: Sequence[str]) -> list[Path]:
    """Draw the overview of a sweep into ``out/overview.<format>`` for every format; returns the paths.

    Needs no screen. Raises ``InputError`` when the folder cannot be written.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    paths = []
    with plt.style.context("scaling_lib.show.styles.blog"):
        figure = plot_overview(runs)
        for kind in formats:
            path = out / f"overview.{kind}"
            with atomic_file(path) as file:
                figure.savefig(file, format=kind, metadata=NO_DATE.get(kind))
            paths.append(path)
        plt.close(figure)
    return paths

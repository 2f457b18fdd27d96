"""The measured use of context: what the records say, read and drawn alike."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

import scaling_lib.show
from scaling_lib.errors import InputError
from scaling_lib.show.context import context_curves, plot_context

mpl.use("agg")


def test_curves_are_the_records() -> None:
    path = Path(scaling_lib.show.__file__).parent / "records" / "context.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    curves = context_curves()
    assert list(curves) == ["2x32", "3x80", "4x112"]
    for row in rows[:: len(rows) // 40]:
        curve = curves[row["model"]]
        assert curve.at(curve.loss[row["where"]], float(row["n_tokens"])) == pytest.approx(float(row["loss"]))
    assert sum(len(v) for c in curves.values() for v in c.loss.values()) == len(rows)


def test_a_fresh_model_uses_no_context_and_copies_nothing() -> None:
    for curve in context_curves().values():
        assert curve.n_tokens[0] == 0
        assert abs(curve.gain[0]) < 0.02
        assert abs(curve.copying[0]) < 0.02
        assert curve.loss[curve.bands[0]][0] == pytest.approx(np.log(1024), abs=0.02)


def test_the_figure_has_a_line_for_each_model_and_refuses_other_words() -> None:
    for what in ("gain", "copying"):
        axes = plot_context(what)
        assert [line.get_label() for line in axes.lines[:3]] == ["2x32", "3x80", "4x112"]
        assert "nats" in axes.get_ylabel()
    with pytest.raises(InputError, match="choose gain or copying"):
        plot_context("loss")
    curve = context_curves()["2x32"]
    with pytest.raises(InputError, match="lies outside the curve"):
        curve.at(curve.gain, 1e12)

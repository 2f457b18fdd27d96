"""A grid over sizes and token counts: the joint law found again, and the largest cells held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from scaling_lib.cli import main
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, write_run
from scaling_lib.show.grids import find_grids, plot_grid, plot_held_out, the_grid
from scaling_lib.show.report import grid_report, sweep_report

mpl.use("agg")
Make = Callable[..., Run]
WIDTHS = (16, 32, 48, 64, 96, 128)
STEPS = (50, 100, 200, 400)


def size_of(d: int) -> int:
    return 24 * d**2 + 6 * d


def law(n: float, tokens: float) -> float:
    return 1.8 + 30 / n**0.3 + 300 / tokens**0.45


@pytest.fixture
def runs(make_run: Make) -> list[Run]:
    noise = np.random.default_rng(1).normal(0, 0.002, (6, 4, 2))
    made = [
        make_run("wsd", d_model=d, steps=s, seed=seed, loss=law(size_of(d), s * 1024) * (1 + float(noise[i, j, seed])))
        for i, d in enumerate(WIDTHS)
        for j, s in enumerate(STEPS)
        for seed in range(2 if i < 2 else 1)
    ]
    return [*made, make_run("v2", d_model=16), make_run("v2", d_model=32)]


def test_the_joint_law_is_found_again_from_trunks(runs: list[Run]) -> None:
    (grid,) = find_grids(runs)
    assert grid.recipe == "wsd"
    assert len(grid.runs) == 6 * 4 + 2 * 4
    groups = np.asarray(grid.table.groups)
    assert len(set(groups.tolist())) == 8  # six models, two of them with a second seed
    assert grid.table.n_params is not None
    assert set(grid.table.n_params.tolist()) == {size_of(d) for d in WIDTHS}
    for name, truth in (("E", 1.8), ("alpha", 0.3), ("beta", 0.45)):
        low, high = grid.fit.parameter_interval(name, level=0.99)
        assert low < truth < high


def test_the_largest_size_and_the_longest_runs_are_hidden_and_predicted(runs: list[Run]) -> None:
    found = the_grid(runs).held_out
    assert found.hidden.sum() == 4 + 5 + 2  # the last row, the last column, and the column's second seeds
    assert found.fit.fit_range["N"][1] == size_of(96)
    assert found.fit.fit_range["D"][1] == 200 * 1024
    assert found.mean_abs_error < 0.01
    assert found.mean_abs_error < np.abs(found.line_error).mean()
    assert found.mean_abs_error < np.abs(found.nearest_error).mean()


def test_runs_that_diverged_ladders_and_scans_of_rates_are_no_grids(runs: list[Run], make_run: Make) -> None:
    ladder = [make_run("v2", d_model=d) for d in WIDTHS] + [make_run("v2", d_model=48, steps=s) for s in STEPS]
    assert find_grids(ladder) == []
    with pytest.raises(InputError, match=r"\Aa grid [^\n]+ there is none; --mode laptop trains one\Z"):
        the_grid(ladder)
    lost = [replace(r, status="diverged", val_loss=None) if i == 3 else r for i, r in enumerate(runs)]
    assert len(the_grid(lost).runs) == len(the_grid(runs).runs) - 1
    two_rates = [*runs, make_run("wsd", d_model=16, steps=50, lr=0.5, loss=4.0)]
    assert find_grids(two_rates) == []


def test_the_report_shows_every_cell_the_law_and_what_was_held_out(runs: list[Run]) -> None:
    text = grid_report(the_grid(runs))
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("2x")][:6]
    assert [row[0] for row in rows] == [f"2x{d}" for d in WIDTHS]
    for row, d in zip(rows, WIDTHS, strict=True):
        assert [float(v) for v in row[2:]] == pytest.approx([law(size_of(d), s * 1024) for s in STEPS], rel=0.01)
    assert "Joint law, 32 runs on 8 trunks" in text
    assert "alpha" in text
    assert "11 hidden" in text
    assert text in sweep_report(runs)


def test_the_command_hides_and_predicts(runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs:
        write_run(run, tmp_path)
    assert main(["backtest", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "11 hidden" in out
    assert "mean absolute error" in out
    assert main(["backtest", str(tmp_path), "--hide", "2"]) == 2


def test_figures_show_every_run(runs: list[Run]) -> None:
    grid = the_grid(runs)
    for variable, levels in (("D", 6), ("N", 4)):
        axes = plot_grid(grid, variable)
        points = [line for line in axes.lines if line.get_linestyle() == "None"]
        assert len(points) == levels
        assert sum(len(line.get_xdata()) for line in points) == len(grid.runs)
    axes = plot_held_out(grid)
    assert sum(len(c.lines[0].get_xdata()) for c in axes.containers) == 11


def test_another_law_is_held_out_on_the_same_cells(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = the_grid(runs)
    other = grid.hold_out("kaplan")
    np.testing.assert_array_equal(other.hidden, grid.held_out.hidden)
    assert other.fit.law.name == "kaplan"
    assert other.mean_abs_error > grid.held_out.mean_abs_error  # these losses are additive
    for run in runs:
        write_run(run, tmp_path)
    assert main(["backtest", str(tmp_path), "--law", "kaplan"]) == 0
    assert capsys.readouterr().out == other.summary(20).replace(other.source, "wsd grid") + "\n"
    assert main(["backtest", "pythia", "--law", "kaplan"]) == 2

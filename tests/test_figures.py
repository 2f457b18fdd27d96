"""The named figures: which there are, their words, their size, and the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.export import TARGETS, save_set
from scaling_lib.show.figures import figure_set
from scaling_lib.show.grids import grid_isoflop, isoflop_points, plot_isoflop, the_grid
from scaling_lib.sweep.recipes import peak_lr

Make = Callable[..., Run]
WIDTHS = (16, 32, 48, 64, 96, 128)
LADDER = {
    "overview", "parameter-scaling", "curves-by-size", "residuals-n", "extrapolation-n", "data-scaling",
    "curves-by-length", "residuals-d", "extrapolation-d", "back-tests",
}  # fmt: skip


def size_of(d: int) -> int:
    return 24 * d**2 + 6 * d


def law(n: float, tokens: float) -> float:
    return 1.8 + 70 / n**0.3 + 300 / tokens**0.45


@pytest.fixture(scope="module")
def grid_runs(make_run: Make) -> list[Run]:
    noise = np.random.default_rng(1).normal(1, 0.001, (6, 5))
    return [
        make_run("wsd", d_model=d, steps=s, loss=law(size_of(d), s * 1024) * float(noise[i, j]))
        for i, d in enumerate(WIDTHS)
        for j, s in enumerate((50, 100, 200, 400, 800))
    ]


@pytest.fixture(scope="module")
def recipe_runs(make_run: Make) -> list[Run]:
    return [
        make_run(recipe, d_model=d, steps=steps, seed=seed, loss=law(size_of(d), steps * 1024) + 0.01 * seed)
        for recipe, steps in (("v1", 100), ("v2", 300))
        for d in WIDTHS
        for seed in (0, 1)
    ]


def test_a_grid_and_a_way_have_their_figures(grid_runs: list[Run], recipe_runs: list[Run]) -> None:
    assert {f.name for f in figure_set(grid_runs)} == LADDER | {"joint-law", "held-out", "isoflop"}
    names = [f.name for f in figure_set(recipe_runs)]
    assert {"v1-against-v2", "one-change-at-a-time"} <= set(names)
    assert not {"joint-law", "isoflop"} & set(names)
    assert len(names) == len(set(names))


def test_one_seed_has_nothing_to_pair(recipe_runs: list[Run]) -> None:
    names = {f.name for f in figure_set([r for r in recipe_runs if r.config.train.seed == 0])}
    assert "v1-against-v2" in names
    assert "one-change-at-a-time" not in names


def test_captions_give_the_verdict_and_descriptions_the_numbers(grid_runs: list[Run]) -> None:
    by_name = {f.name: f for f in figure_set(grid_runs)}
    for named in by_name.values():
        assert named.caption.endswith(".")
        assert named.alt.endswith(".")
        assert "nan" not in named.caption + named.alt
    assert "supported" in by_name["parameter-scaling"].caption or "weak" in by_name["parameter-scaling"].caption
    assert "not identifiable" in by_name["extrapolation-n"].caption  # three decades beyond a decade and a half
    lowest = min(r.val_loss for r in grid_runs if r.val_loss)
    assert f"{lowest:.2f}" in by_name["parameter-scaling"].alt


def test_parabolas_from_a_grid_find_the_laws_exponent(grid_runs: list[Run]) -> None:
    found = grid_isoflop(the_grid(grid_runs))
    points = isoflop_points(the_grid(grid_runs))
    axes = plot_isoflop(found, points, Figure().add_subplot())
    drawn = [line for line in axes.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in drawn) == len(points) >= 3 * len(found.budgets)
    assert len([line for line in axes.lines if line.get_marker() == "*"]) == found.used.sum()
    assert len(found.budgets) == 5
    low, high = found.a_interval
    assert low - 0.1 < 0.45 / (0.3 + 0.45) < high + 0.1  # beta / (alpha + beta); parabolas are biased


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_files_have_the_size_of_their_target_and_words_beside_them(
    grid_runs: list[Run], tmp_path: Path, target: str
) -> None:
    paths = save_set(grid_runs, tmp_path, ["png"], target)
    pictures = {p.stem for p in paths if p.suffix == ".png"}
    assert pictures == {p.stem for p in paths if p.suffix == ".txt"} == LADDER | {"joint-law", "held-out", "isoflop"}
    sizes = {p.stem: Image.open(p).size for p in paths if p.suffix == ".png"}
    if target == "slides":
        assert set(sizes.values()) == {(2666, 1500)}
    else:
        assert sizes["overview"][1] > sizes["residuals-n"][1]
    for path in paths:
        if path.suffix == ".txt":
            assert "Description: " in path.read_text()


def test_the_same_records_give_the_same_bytes(recipe_runs: list[Run], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_set(recipe_runs, tmp_path / folder, ["png", "svg", "pdf"])
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_a_study_of_rates_is_one_figure(make_run: Make, tmp_path: Path) -> None:
    runs = [
        make_run("wsd", d_model=d, lr=rate, loss=3 + abs(np.log(rate / 0.01)))
        for d in (32, 64)
        for rate in (0.005, 0.01, 0.02)
    ]
    assert [p.name for p in save_set(runs, tmp_path, ["png"], "slides", peak_lr)] == ["rates.png", "rates.txt"]
    assert Image.open(tmp_path / "rates.png").size == (2666, 1500)


def test_an_unknown_target_is_one_line(grid_runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown target 'poster'; choose from blog, slides, paper"):
        save_set(grid_runs, tmp_path, ["png"], "poster")

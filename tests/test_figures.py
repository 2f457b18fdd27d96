"""The named figures: which there are, their words, their size, and the same bytes for the same records."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from scaling_lib.cli import main
from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.export import TARGETS, save_pictures
from scaling_lib.show.figures import sweep_stories
from scaling_lib.show.grids import grid_isoflop, isoflop_points, plot_isoflop, the_grid
from scaling_lib.show.story import Story

Make = Callable[..., Run]
WIDTHS = (16, 32, 48, 64, 96, 128)
LADDER = {
    "overview", "parameter-scaling", "curves-by-size", "residuals-n", "extrapolation-n", "data-scaling",
    "curves-by-length", "residuals-d", "extrapolation-d",
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


@pytest.fixture(scope="module")
def stories(grid_runs: list[Run]) -> list[Story]:
    return list(sweep_stories(grid_runs))


def test_a_grid_and_a_way_have_their_figures(stories: list[Story], recipe_runs: list[Run]) -> None:
    assert {s.name for s in stories} == LADDER | {"joint-law", "held-out", "isoflop"}
    names = [s.name for s in sweep_stories(recipe_runs)]
    assert {"v1-against-v2", "one-change-at-a-time"} <= set(names)
    assert not {"joint-law", "isoflop"} & set(names)
    assert len(names) == len(set(names))
    alone = {s.name for s in sweep_stories([r for r in recipe_runs if r.config.train.seed == 0])}
    assert "v1-against-v2" in alone
    assert "one-change-at-a-time" not in alone, "one seed has nothing to pair"


def test_words_give_the_verdict_and_descriptions_the_numbers(grid_runs: list[Run], stories: list[Story]) -> None:
    by_name = {s.name: s for s in stories}
    for s in stories:
        assert s.caption.endswith(".")
        assert s.alt
        assert "nan" not in s.caption + s.alt + s.headline
    assert re.search("supported|weak", by_name["parameter-scaling"].caption)
    assert "no prediction" in by_name["extrapolation-n"].headline  # three decades beyond a decade and a half
    assert "not identifiable" in by_name["extrapolation-n"].notes
    lowest = min(r.val_loss for r in grid_runs if r.val_loss)
    assert f"{lowest:.2f}" in by_name["parameter-scaling"].alt


def test_parabolas_from_a_grid_find_the_laws_exponent(grid_runs: list[Run], stories: list[Story]) -> None:
    found = grid_isoflop(the_grid(grid_runs))
    points = isoflop_points(the_grid(grid_runs))
    axes = plot_isoflop(found, points, Figure().add_subplot())
    drawn = [line for line in axes.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in drawn) == len(points) >= 3 * len(found.budgets)
    assert len([line for line in axes.lines if line.get_marker() == "*"]) == found.used.sum() > 2
    low, high = found.a_interval
    assert low - 0.1 < 0.45 / (0.3 + 0.45) < high + 0.1  # beta / (alpha + beta); parabolas are biased
    assert f"{10**found.a:.1f} times as large" in next(s.headline for s in stories if s.name == "isoflop")


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_files_have_the_size_of_their_target_and_words_beside_them(
    stories: list[Story], tmp_path: Path, target: str
) -> None:
    some = [s for s in stories if s.name in ("overview", "residuals-n", "joint-law")]
    paths = save_pictures([*some, Story("", "a slide alone", ["text"])], tmp_path, ["png"], target)
    assert {p.name for p in paths} == {f"{s.name}.{kind}" for s in some for kind in ("png", "txt")}
    sizes = {p.stem: Image.open(p).size for p in paths if p.suffix == ".png"}
    if target == "slides":
        assert set(sizes.values()) == {(2666, 1500)}
    else:
        assert sizes["overview"][1] > sizes["residuals-n"][1]
    for s in some:
        text = (tmp_path / f"{s.name}.txt").read_text()
        assert s.caption in text
        assert f"Description: {s.alt}" in text


def test_the_same_records_give_the_same_bytes_and_letters_stay_letters(recipe_runs: list[Run], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        some = [s for s in sweep_stories(recipe_runs) if s.name in ("overview", "parameter-scaling", "v1-against-v2")]
        save_pictures(some, tmp_path / folder, ["png", "svg", "pdf"])
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert "non-embedding parameters N</text>" in (tmp_path / "a" / "parameter-scaling.svg").read_text()


def test_the_published_have_figures_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figures", "published"]) == 0
    stems = {p.stem for p in Path("figures/published").iterdir()}
    assert stems == {"law", "back-tests", "published-laws", ".drawn"}


def test_an_unknown_target_is_one_line(stories: list[Story], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown target 'poster'; choose from blog, slides, paper"):
        save_pictures(stories, tmp_path, ["png"], "poster")

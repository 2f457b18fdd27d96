"""The deck: messages computed from the records, letters that can be read, nothing out of bounds, one uncertainty."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pptx
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.text import Text

from scaling_lib.cli import main
from scaling_lib.cli_show import _claim
from scaling_lib.errors import InputError
from scaling_lib.fit import fit_power_law
from scaling_lib.runs import Run, write_run
from scaling_lib.show.deck import BOX, LETTERS, SMALLEST, STYLES, WIDTH, save_slides
from scaling_lib.show.figures import sweep_stories
from scaling_lib.show.slides import talk
from scaling_lib.show.story import Story
from scaling_lib.sweep.recipes import peak_lr

MakeRun = Callable[..., Run]
EMU = 914_400  # to an inch


def n_of(d: int) -> int:
    return 24 * d**2 + 6 * d


@pytest.fixture(scope="module")
def recipes_runs(make_run: MakeRun) -> list[Run]:
    """V1 flat; V2 on L = 2 + 2 (10^5 / N)^0.4; two seeds; a text whose name carries options."""
    rng = np.random.default_rng(0)
    corpus = {"name": "made:train_tokens=99", "fingerprint": "f" * 64, "vocab_size": 512, "n_val_tokens": 4096}
    found = []
    for d, seed in itertools.product((16, 24, 32, 48, 64, 96), range(2)):
        v1 = make_run("v1", d_model=d, seed=seed, loss=4.5 + 0.05 * float(rng.normal()), corpus=corpus)
        loss = (2 + 2 * (1e5 / n_of(d)) ** 0.4) * float(np.exp(1e-3 * rng.normal()))
        found += [v1, make_run("v2", d_model=d, steps=300, seed=seed, loss=loss, corpus=corpus)]
    return found


@pytest.fixture(scope="module")
def grid_runs(make_run: MakeRun) -> list[Run]:
    """A grid on a language whose entropy is known: 2."""
    rng = np.random.default_rng(1)
    corpus = {"name": "walk", "fingerprint": "b" * 64, "vocab_size": 512, "n_val_tokens": 4096, "entropy_rate": 2.0}
    return [
        make_run(
            "wsd", d_model=d, steps=steps, corpus=corpus,
            loss=(2 + 30 / n_of(d) ** 0.3 + 60 / (steps * 1024) ** 0.3) * float(np.exp(2e-3 * rng.normal())),
        )
        for d in (16, 24, 32, 48, 64, 128)
        for steps in (100, 200, 300, 1000, 3000)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def slides(recipes_runs: list[Run], grid_runs: list[Run]) -> list[Story]:
    return talk([("runs/one", recipes_runs), ("runs/two", grid_runs)])


@pytest.fixture(scope="module")
def deck(slides: list[Story], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pptx.Presentation(str(save_slides(slides, tmp_path_factory.mktemp("deck") / "talk.pptx")))


def drawn(slide: Story) -> Figure:
    with style.context([*STYLES, LETTERS]):
        figure = Figure(figsize=BOX[2:])
        slide.figure(figure)  # type: ignore[operator]
        figure.draw_without_rendering()
    return figure


# ---- the file --------------------------------------------------------------------


def test_it_is_16_to_9_and_every_slide_has_a_title_notes_and_a_described_picture_or_words(deck: Any) -> None:
    assert deck.slide_width / deck.slide_height == pytest.approx(16 / 9, abs=1e-3)
    for page in list(deck.slides):
        assert page.shapes.title.text_frame.text.strip()
        assert len(page.notes_slide.notes_text_frame.text) > 20
    pictures = [(page, s) for page in deck.slides for s in page.shapes if s.shape_type == 13]
    assert len(pictures) >= 14
    for page, picture in pictures:
        assert (picture.width / EMU, picture.height / EMU) == pytest.approx(BOX[2:], abs=1e-3), "drawn for its box"
        said = picture._element.nvPicPr.cNvPr.get("descr")
        assert len(said) > len(page.shapes.title.text_frame.text) + 20


def test_no_letter_is_smaller_than_14_points(deck: Any, slides: list[Story]) -> None:
    for page in deck.slides:
        frames = [s.text_frame for s in page.shapes if s.has_text_frame]
        frames += [cell.text_frame for s in page.shapes if s.has_table for row in s.table.rows for cell in row.cells]
        for run in (run for frame in frames for paragraph in frame.paragraphs for run in paragraph.runs):
            assert run.font.size.pt >= SMALLEST, run.text
    for slide in slides:
        if callable(slide.figure):
            for text in drawn(slide).findobj(Text):
                assert not text.get_text() or text.get_fontsize() >= SMALLEST, text.get_text()  # type: ignore[attr-defined]


def test_nothing_leaves_the_slide_or_lies_on_another_shape_and_text_fits_its_box(deck: Any) -> None:
    for page in deck.slides:
        title = page.shapes.title.text_frame.text
        found = [[v / EMU for v in (s.left, s.top, s.width, s.height)] for s in page.shapes]
        for left, top, width, height in found:
            assert min(left, top) >= 0, title
            assert left + width <= WIDTH + 0.01, title
            assert top + height <= 7.5, title
        for (x, y, w, h), (p, q, r, s) in itertools.combinations(found, 2):
            assert x + w <= p + 0.06 or p + r <= x + 0.06 or y + h <= q + 0.06 or q + s <= y + 0.06, title
        # An average letter of the theme's font is about half as wide as it is high; a line takes 1.2 of its height.
        for shape in (s for s in page.shapes if s.has_text_frame and s.text_frame.text):
            height = 0.1
            for paragraph in shape.text_frame.paragraphs:
                size = paragraph.runs[0].font.size.pt / 72
                height += (-(-len(paragraph.text) // ((shape.width / EMU - 0.2) / (0.5 * size)))) * 1.2 * size
            assert height <= shape.height / EMU + 0.15, shape.text_frame.text


def test_exponents_are_raised_and_minus_signs_are_real(tmp_path: Path) -> None:
    path = save_slides(
        [Story("", "N^α and C^β/(α+β), -0.5 [-0.7, -0.3], v1-to-v2, C^0.44.", ["a"], notes="x")], tmp_path / "d.pptx"
    )
    runs = pptx.Presentation(str(path)).slides[0].shapes.title.text_frame.paragraphs[0].runs
    raised = [(r.text, r.font._element.get("baseline")) for r in runs]
    assert raised[:4] == [("N", None), ("α", "30000"), (" and C", None), ("β/(α+β)", "30000")]
    assert raised[4:] == [(", −0.5 [−0.7,\u00a0−0.3], v1-to-v2, C", None), ("0.44", "30000"), (".", None)]


# ---- what it says ----------------------------------------------------------------


def about(slides: list[Story], words: str) -> Story:
    (found,) = [s for s in slides if s.headline.startswith(words)]
    return found


def test_headlines_are_messages_with_the_records_own_numbers(slides: list[Story], recipes_runs: list[Run]) -> None:
    own = [r for r in recipes_runs if r.config.train.recipe == "v2"]
    fit = fit_power_law([r.counts["n_params_non_embedding"] for r in own], [r.val_loss for r in own])
    share, low, high = (100 * (1 - 2**-v) for v in (fit.params["alpha"], *fit.parameter_interval("alpha")))
    headline = f"Twice the parameters remove {share:.0f}% [{low:.0f}, {high:.0f}] of what is left above the floor"
    assert headline in [s.headline for s in slides]
    assert share == pytest.approx(100 * (1 - 2**-0.4), abs=3)
    last = {
        recipe: [r.val_loss for r in recipes_runs if (r.config.train.recipe, r.config.model.d_model) == (recipe, 96)]
        for recipe in ("v1", "v2")
    }
    fall = float(np.mean(last["v1"])) - float(np.mean(last["v2"]))
    assert re.match(rf"V2 ends {fall:.2f} \[-?\d\.\d\d, \d\.\d\d\] nats below V1", about(slides, "V2 ends").headline)
    far = next(s for s in slides if s.headline.startswith("Ten times the largest model"))
    largest = max(r.counts["n_params_non_embedding"] for r in own)
    assert f"{fit.predict(10 * largest):.2f} [" in far.headline
    assert "no prediction" in far.headline


def test_a_law_stops_where_it_is_refused_and_the_known_entropy_is_on_its_slide(slides: list[Story]) -> None:
    far = next(s for s in slides if s.headline.startswith("Ten times the largest model"))
    assert [t.get_text() for t in drawn(far).axes[0].texts] == ["no prediction"]
    known = [s for s in slides if s.name.startswith(("parameter", "data-", "extra")) and "walk" in s.caption]
    assert len(known) == 4
    for slide in known:
        (axes,) = drawn(slide).axes
        assert any(list(line.get_ydata()) == [2.0, 2.0] for line in axes.lines)
    (joint,) = (s for s in slides if s.name == "joint-law")
    assert all(any(list(line.get_ydata()) == [2.0, 2.0] for line in axes.lines) for axes in drawn(joint).axes)
    floors = about(slides, "The text's entropy is 2.000")
    assert re.search(r"floor, \d\.\d\d \[\d\.\d\d, \d\.\d\d\], (holds|misses) it", floors.headline)


def test_each_slide_has_one_uncertainty_and_no_names_of_files(slides: list[Story], recipes_runs: list[Run]) -> None:
    for slide in slides:
        words = slide.headline + slide.caption
        assert "±" not in words
        assert "train_tokens" not in words
        assert not any(r.run_id in words for r in recipes_runs)
        assert not re.search(r"\bwsd\b", words, re.I)
        if callable(slide.figure) and re.search("[Bb]and:", slide.caption):
            for axes in drawn(slide).axes:
                bands = {c.get_alpha() for c in axes.collections if c.get_alpha() is not None}
                assert len(bands) <= 1, slide.headline


def test_curves_of_losses_are_validation_losses(slides: list[Story], recipes_runs: list[Run]) -> None:
    own = [r for r in recipes_runs if r.config.model.d_model == 96 and r.config.train.seed == 0]
    lines = drawn(about(slides, "V2 ends")).axes[0].lines[:2]
    assert [float(line.get_ydata()[-1]) for line in lines] == [r.val_loss for r in own]


def test_pictures_and_slides_are_one_list(slides: list[Story], grid_runs: list[Run]) -> None:
    told = [s for s in sweep_stories(grid_runs) if s.headline]
    assert {s.name for s in told} <= {s.name for s in slides}
    assert {"floors", "joint-law", "held-out", "extrapolation-n"} <= {s.name for s in told}
    assert [s.headline for s in talk([])][-1] == "Try it yourself"  # of published laws alone


def test_every_exponent_is_in_a_table_and_a_refused_one_is_no_prediction(slides: list[Story]) -> None:
    rows = [row for s in slides if s.headline.startswith("All exponents") for row in s.figure[1:]]  # type: ignore[index]
    assert ("made", "V1", "L(N)", "no prediction", "no trend") in rows
    assert [row[2] for row in rows] == ["L(N)", "L(N)", "L(N)", "L(D)", "L(N, D)", "L(N, D)"]


def test_a_study_of_rates_has_its_slide(make_run: MakeRun) -> None:
    runs = [
        make_run("wsd", d_model=d, lr=k * peak_lr(d), loss=3 + abs(np.log(k)))
        for d in (32, 64) for k in (0.25, 1, 4)
    ]  # fmt: skip
    (told,) = sweep_stories(runs, peak_lr)  # one figure
    assert "all 2 scans; the width rule loses at most 0.0%" in told.headline
    assert told.headline in [s.headline for s in talk([("rates", runs)], peak_lr)]
    old = [replace(r, config=replace(r.config, model=replace(r.config.model, positions="learned"))) for r in runs]
    (told,) = sweep_stories(old, peak_lr)  # the rule was made for other models
    assert told.headline.endswith("all 2 scans")
    assert "these runs have learned ones" in told.caption


# ---- the command -----------------------------------------------------------------


def test_the_command_writes_the_deck_and_leaves_the_backend_alone(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for d in (32, 48, 64):
        write_run(make_run(d_model=d, loss=4.0 - d / 100), tmp_path / "runs" / "small")
    before = mpl.get_backend()
    mpl.use("svg")
    try:
        assert main(["figures", "runs/small", "--target", "pptx"]) == 0
        assert mpl.get_backend() == "svg"
    finally:
        mpl.use(before)
    path = Path(capsys.readouterr().out.strip())
    assert path == Path("figures/small/talk.pptx")
    assert len(pptx.Presentation(str(path)).slides) >= 8
    for argv, says in ((["--format", "svg"], "leave --format out"), (["none"], "no such folder")):
        assert main(["figures", "runs/small", *argv, "--target", "pptx"]) == 2
        assert says in capsys.readouterr().err


def test_the_figures_of_one_folder_do_not_replace_those_of_another_of_its_name(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for there in ("runs", "others"):
        for d in (32, 48, 64):
            write_run(make_run(d_model=d, loss=4.0 - d / 100), tmp_path / there / "small")
    assert main(["figures", "runs/small", "--target", "html"]) == 0
    assert main(["figures", str(tmp_path / "runs" / "small"), "--target", "html"]) == 0, "the same ones again"
    assert main(["figures", "others/small", "--target", "html"]) == 2
    assert "figures/small holds the page small of ../../runs/small" in capsys.readouterr().err
    assert main(["figures", "others/small", "--target", "html", "--out", "o"]) == 0
    for kind in ("pictures", "talk"):  # of other files, so of whom one likes
        _claim(Path("o"), kind, [Path("runs/small")])
        _claim(Path("o"), kind, [Path("others/small")])()  # noted once something is drawn
        _claim(Path("o"), kind, [Path("others/small")])
        with pytest.raises(InputError, match=f"o holds the {kind} of ../others/small"):
            _claim(Path("o"), kind, [Path("published")])

"""The deck: real titles, descriptions, notes, nothing out of bounds or on top of another, numbers from the records."""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scaling_lib.show.talk import tell
from scaling_lib.show.talk_figures import Sweep

from scaling_lib.cli import main
from scaling_lib.fit import fit_power_law
from scaling_lib.runs import Run, write_run
from scaling_lib.show.slides import HEIGHT, MOST_CAPTION, WIDTH, Slide, _raised, _set, _short, save_slides

pptx = pytest.importorskip("pptx", reason="python-pptx (extra `slides`) is absent: no deck is made")
MakeRun = Callable[..., Run]
EMU = 914_400  # to an inch


def n_of(d: int) -> int:
    return 24 * d**2 + 5 * d


@pytest.fixture(scope="module")
def recipes_runs(make_run: MakeRun) -> list[Run]:
    """V1 flat; V2 on L = 2 + 2 (10^5 / N)^0.4; two seeds."""
    rng = np.random.default_rng(0)
    found = []
    for d, seed in itertools.product((16, 24, 32, 48, 64, 96), range(2)):
        found.append(make_run("v1", d_model=d, seed=seed, loss=4.5 + 0.05 * float(rng.normal())))
        loss = (2 + 2 * (1e5 / n_of(d)) ** 0.4) * float(np.exp(1e-3 * rng.normal()))
        found.append(make_run("v2", d_model=d, steps=300, seed=seed, loss=loss))
    return found


@pytest.fixture(scope="module")
def grid_runs(make_run: MakeRun) -> list[Run]:
    rng = np.random.default_rng(1)
    return [
        make_run(
            "wsd", d_model=d, steps=steps, fingerprint="b" * 64,
            loss=(2 + 30 / n_of(d) ** 0.3 + 60 / (steps * 1024) ** 0.3) * float(np.exp(2e-3 * rng.normal())),
        )
        for d in (16, 32, 64, 128)
        for steps in (100, 300, 1000, 3000)
    ]  # fmt: skip


def stand_ins(folder: Path, names: list[str]) -> dict[str, Path]:
    """Small pictures under the names of real ones, each with its caption and description."""
    found = {}
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        plt.imsave(path, np.ones((9, 16)))
        long = "; ".join(f"part {i} of a long caption with E = 3.{i:02}" for i in range(20))
        path.with_suffix(".txt").write_text(f"Caption of {name}. {long}.\n\nDescription: What {name} shows.\n")
        found[name] = path
    return found


FIGURES = ["parameter-scaling", "curves-by-size", "residuals-n", "extrapolation-n", "data-scaling", "curves-by-length",
           "residuals-d", "extrapolation-d", "back-tests", "overview"]  # fmt: skip


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory, recipes_runs: list[Run], grid_runs: list[Run]) -> list[Slide]:
    folder = tmp_path_factory.mktemp("pictures")
    one = stand_ins(folder / "one", [*FIGURES, "v1-against-v2", "one-change-at-a-time"])
    two = stand_ins(folder / "two", [*FIGURES, "joint-law", "held-out", "isoflop"])
    laws = stand_ins(folder, ["published-laws"])["published-laws"]
    return tell([Sweep("runs/one", tuple(recipes_runs), one), Sweep("runs/two", tuple(grid_runs), two)], laws)


@pytest.fixture(scope="module")
def deck(slides: list[Slide], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = save_slides(slides, tmp_path_factory.mktemp("deck") / "talk.pptx", "A talk")
    return pptx.Presentation(str(path))


def boxes(page: Any) -> Iterator[tuple[str, float, float, float, float]]:
    for shape in page.shapes:
        yield (shape.name, *(v / EMU for v in (shape.left, shape.top, shape.width, shape.height)))


# ---- the file --------------------------------------------------------------------


def test_it_is_16_to_9_and_every_slide_has_a_title_and_notes(deck: Any) -> None:
    assert deck.slide_width / deck.slide_height == pytest.approx(16 / 9, abs=1e-3)
    assert len(deck.slides) > 20
    for page in deck.slides:
        assert page.shapes.title.text_frame.text.strip()
        assert len(page.notes_slide.notes_text_frame.text) > 20
    titles = [page.shapes.title.text_frame.text for page in deck.slides]
    assert all(len(title) < 100 for title in titles)


def test_every_picture_has_a_description_and_none_fills_a_slide(deck: Any) -> None:
    pictures = [s for page in deck.slides for s in page.shapes if s.shape_type == 13]
    assert len(pictures) >= 17
    for picture in pictures:
        assert picture._element.nvPicPr.cNvPr.get("descr") == f"What {picture.name} shows."
        assert picture.width / picture.height == pytest.approx(16 / 9, abs=1e-2)
        assert picture.width / EMU < 0.7 * WIDTH


def test_nothing_leaves_the_slide_or_lies_on_another_shape(deck: Any) -> None:
    for page in deck.slides:
        found = list(boxes(page))
        for name, left, top, width, height in found:
            assert left >= 0, name
            assert top >= 0, name
            assert left + width <= WIDTH + 0.01, name
            assert top + height <= HEIGHT + 0.01, name
        for (a, x, y, w, h), (b, p, q, r, s) in itertools.combinations(found, 2):
            apart = x + w <= p + 0.06 or p + r <= x + 0.06 or y + h <= q + 0.06 or q + s <= y + 0.06
            assert apart, f"{a} and {b} on {page.shapes.title.text_frame.text!r}"


def test_text_fits_its_box(deck: Any) -> None:
    # An average letter of the theme's font is about half as wide as it is high; a line takes 1.2 of its height.
    for page in deck.slides:
        for shape in page.shapes:
            if not shape.has_text_frame or not shape.text_frame.text:
                continue
            height = 0.1
            for paragraph in shape.text_frame.paragraphs:
                size = next((r.font.size.pt for r in paragraph.runs if r.font.size), 28.0)
                letters = max(1.0, (shape.width / EMU - 0.2 - size / 72) / (0.5 * size / 72))
                height += (-(-len(paragraph.text) // letters) * 1.2 + 0.5 * (size == 16 or size == 22)) * size / 72
            assert height <= shape.height / EMU + 0.15, (page.shapes.title.text_frame.text, shape.text_frame.text)


def test_tables_are_native(deck: Any) -> None:
    tables = [s.table for page in deck.slides for s in page.shapes if s.has_table]
    headings = [[cell.text for cell in table.rows[0].cells] for table in tables]
    assert ["sweep", "recipe", "law", "exponent, 90% interval", "verdict"] in headings
    assert ["recipe", "rate", "warm-up", "weight decay", "steps", "runs"] in headings


def test_exponents_are_raised_and_minus_signs_are_real(deck: Any) -> None:
    formula = next(s for s in deck.slides[1].shapes if s.has_text_frame and s.text_frame.text.startswith("L(N) = "))
    runs = formula.text_frame.paragraphs[0].runs
    assert [(r.text, r.font._element.get("baseline")) for r in runs] == [("L(N) = E + A / N", None), ("α", "30000")]
    assert _raised("N* ~ C^0.44, and 2^α.") == [("N* ~ C", False), ("0.44", True), (", and 2", False), ("α", True),
                                                 (".", False)]  # fmt: skip
    assert _set("alpha -0.5 [-0.7, -0.3], v1-to-v2 2020-06") == "α −0.5 [−0.7,\u00a0−0.3], v1-to-v2 2020-06"


def test_a_long_caption_ends_at_a_whole_part() -> None:
    caption = "; ".join(f"part {i} of the caption" for i in range(60))
    short = _short(caption)
    assert len(short) <= MOST_CAPTION
    assert short.endswith("of the caption; (more in the notes)")
    assert _short("A short one.") == "A short one."


# ---- what it says ----------------------------------------------------------------


def by_picture(slides: list[Slide], name: str, source: str) -> Slide:
    return next(s for s in slides if s.picture and s.picture.stem == name and s.source.startswith(source))


def test_its_parts_come_in_order(slides: list[Slide]) -> None:
    sections = [s.section for s in slides]
    assert [k for k, _ in itertools.groupby(sections)] == [
        "", "Theory", "V1 against V2", "Scaling", "Extrapolation", "Limits", "Next",
    ]  # fmt: skip
    assert slides[0].points[0].startswith("40 small language models")


def test_titles_and_points_quote_the_records(slides: list[Slide], recipes_runs: list[Run]) -> None:
    ladder = [r for r in recipes_runs if r.config.train.recipe == "v2"]
    fit = fit_power_law([r.counts["n_params_non_embedding"] for r in ladder], [r.val_loss for r in ladder])
    slide = by_picture(slides, "parameter-scaling", "runs/one")
    assert slide.title == f"V2: the loss falls with size, exponent {fit.params['alpha']:.2f} (supported)"
    assert slide.points[0] == "V1: no trend"
    low, high = fit.parameter_interval("alpha")
    assert f"α = {fit.params['alpha']:.2f} [{low:.2f}, {high:.2f}]" in slide.points[1]
    ends = {
        recipe: np.mean(
            [r.val_loss for r in recipes_runs if r.config.model.d_model == 96 and r.run_id.startswith(recipe)]
        )
        for recipe in ("v1", "v2")
    }
    slide = by_picture(slides, "v1-against-v2", "runs/one")
    assert slide.title == f"At 2x96, V1 ends at {ends['v1']:.2f} nats and V2 at {ends['v2']:.2f}"
    table = next(s.table for s in slides if s.table and s.table[0][0] == "recipe")
    assert table[1] == ("V1", "constant", "none", "0", "100", "12")
    far = by_picture(slides, "extrapolation-n", "runs/one")
    largest = max(r.counts["n_params_non_embedding"] for r in ladder)
    assert far.points[1].startswith(f"10 times: {fit.predict(10 * largest):.2f} nats [")
    assert far.title == "V2, 1,000 times the size: no prediction (not identifiable)"


def test_the_notes_hold_caption_description_and_source(slides: list[Slide]) -> None:
    slide = by_picture(slides, "joint-law", "runs/two")
    for text in ("Caption of joint-law.", "What joint-law shows.", "runs/two: 16 runs on made, vocabulary 512"):
        assert text in slide.notes
    published = next(s for s in slides if s.picture and s.picture.stem == "back-tests")
    assert "Dey et al. 2023" in published.source
    assert "runs/" not in published.notes


def test_limits_count_how_far_the_famous_models_lie(slides: list[Slide], grid_runs: list[Run]) -> None:
    limits = next(s for s in slides if s.title == "What these runs cannot say")
    largest = n_of(128)
    times = int(re.search(r"is ([\d,]+) times", limits.points[0])[1].replace(",", ""))  # type: ignore[index]
    assert times == pytest.approx(174.6e9 / largest, rel=0.05)


# ---- the command -----------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for d in (32, 48, 64):
        write_run(make_run(d_model=d, loss=4.0 - d / 100), tmp_path / "runs" / "small")
    return tmp_path


def call(*argv: object) -> int:
    try:
        return main([str(a) for a in argv])
    except SystemExit as end:
        return int(end.code or 0)


def test_the_command_writes_the_deck_beside_its_pictures(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("figures", "runs/small", "--target", "pptx") == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == Path("figures/small/talk.pptx")
    deck = pptx.Presentation(str(path))
    assert (place / "figures" / "small" / "parameter-scaling.png").exists()
    pictures = {s.name for page in deck.slides for s in page.shapes if s.shape_type == 13}
    assert {"published-laws", "parameter-scaling", "extrapolation-n", "back-tests"} <= pictures
    assert all(s._element.nvPicPr.cNvPr.get("descr") for page in deck.slides for s in page.shapes if s.shape_type == 13)


def test_without_python_pptx_one_line_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pptx" else find(name, *rest))
    assert call("figures", "runs/small", "--target", "pptx") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "'.[slides]'" in err
    assert not (place / "figures").exists()


def test_bad_wishes_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("figures", "runs/small", "--target", "pptx", "--format", "svg") == 2
    assert "leave --format out" in capsys.readouterr().err
    assert call("figures", "runs/small", "none", "--target", "pptx") == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (place / "figures").exists()

"""Two sweeps, or recipes, side by side: made records whose exponents and losses are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from scaling_lib import cli_show
from scaling_lib.cli import main
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, write_run
from scaling_lib.show.versus import Versus, compare_recipes, compare_sweeps, plot_versus, tables

MakeRun = Callable[..., Run]
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192)


def n_of(d: int) -> int:
    return 24 * d**2 + 6 * d  # two layers: 12 L d^2 + (2 L + 2) d


def sweep(
    make_run: MakeRun,
    alpha: float,
    widths: Sequence[int] = WIDTHS,
    *,
    noise: float = 1e-3,
    floor: float = 2.0,
    **others: object,
) -> list[Run]:
    """Runs on L = floor + 2 (10^5 / N)^alpha."""
    rng = np.random.default_rng(len(widths))
    return [
        make_run(d_model=d, loss=(floor + 2 * (1e5 / n_of(d)) ** alpha) * float(np.exp(noise * rng.normal())), **others)
        for d in widths
    ]


def texts(versus: Versus, right: bool | None) -> str:
    return "; ".join(text for found, text in versus.findings if found is right)


# ---- exponents -------------------------------------------------------------------


def test_an_exponent_that_holds_is_right_and_one_that_does_not_is_wrong(make_run: MakeRun) -> None:
    real = sweep(make_run, 0.3, (*WIDTHS, 256, 384), steps=200, fingerprint="b" * 64)
    same = compare_sweeps(sweep(make_run, 0.3), real, ("quick", "real"))
    assert "the interval holds the real estimate" in texts(same, True)
    other = compare_sweeps(sweep(make_run, 0.8), real, ("quick", "real"))
    said = texts(other, False)
    assert said.startswith("alpha of L(N): ")
    assert "wholly above the real one; its verdict gave no warning" in said
    lower = compare_sweeps(sweep(make_run, 0.3), sweep(make_run, 0.8, steps=900), ("quick", "real"))
    assert "wholly below" in texts(lower, False)


def test_an_interval_that_excludes_little_proves_nothing(make_run: MakeRun) -> None:
    quick = sweep(make_run, 0.3, WIDTHS[2:7], noise=3e-2)
    real = sweep(make_run, 0.3, (*WIDTHS, 256, 384), steps=200, fingerprint="b" * 64)
    versus = compare_sweeps(quick, real, ("quick", "real"))
    e = versus.sides[0].exponents["alpha of L(N)"]
    assert e.value is not None
    assert e.high > 3 * e.low
    assert "excludes little" in texts(versus, None)
    assert not texts(versus, False)


def test_flat_losses_have_no_exponent(make_run: MakeRun) -> None:
    rng = np.random.default_rng(0)
    flat = [make_run(d_model=d, loss=4 + 0.1 * float(rng.normal())) for d in WIDTHS]
    versus = compare_sweeps(flat, sweep(make_run, 0.3, steps=200), ("quick", "real"))
    assert versus.sides[0].exponents["alpha of L(N)"].value is None
    assert "could not tell, and said so" in texts(versus, None)
    both = compare_sweeps(flat, [make_run(d_model=d, steps=200, loss=4 - 1e-4 * d) for d in (16, 32, 48)], ("a", "b"))
    assert "neither gives a number" in texts(both, True)


# ---- losses, where they may be compared ------------------------------------------


@pytest.mark.parametrize(
    ("others", "says"),
    [({"fingerprint": "b" * 64}, "the texts differ"), ({"vocab_size": 600}, "the vocabularies differ")],
)
def test_losses_of_two_texts_or_vocabularies_are_never_compared(
    make_run: MakeRun, others: dict[str, object], says: str
) -> None:
    versus = compare_sweeps(sweep(make_run, 0.3, WIDTHS[:6]), sweep(make_run, 0.3, **others), ("quick", "real"))
    assert says in versus.why_not_losses
    assert "Losses are not compared" in tables(versus)
    assert not any("larger runs" in text for _, text in versus.findings)
    same = compare_sweeps(sweep(make_run, 0.3, WIDTHS[:6]), sweep(make_run, 0.3), ("quick", "real"))
    assert same.why_not_losses == ""
    assert tables(same).count(" tokens  ") == 6, "a row for each cell that both have"


def test_larger_runs_of_the_same_text_judge_the_quick_looks_law(make_run: MakeRun) -> None:
    quick = sweep(make_run, 0.3, WIDTHS[:6], noise=5e-4)
    versus = compare_sweeps(quick, sweep(make_run, 0.3, WIDTHS, noise=5e-4), ("quick", "real"))
    times = n_of(192) / n_of(96)
    assert f"L(N) at 2 larger runs, up to {times:.3g} times: mean error 0." in texts(versus, True)
    assert "2 of 2 inside" in texts(versus, True)
    bent = [*quick, *(make_run(d_model=d, loss=2.9) for d in (128, 192))]  # where the law says about 2.6
    versus = compare_sweeps(quick, bent, ("quick", "real"))
    assert "0 of 2 inside" in texts(versus, False)
    other_length = sweep(make_run, 0.3, WIDTHS, steps=200)
    assert "larger runs" not in texts(compare_sweeps(quick, other_length, ("quick", "real")), True)
    assert "larger runs" not in texts(compare_sweeps(quick, sweep(make_run, 0.3, recipe="wsd"), ("q", "r")), True)


def test_cells_that_both_have_are_set_side_by_side(make_run: MakeRun) -> None:
    quick = [make_run(d_model=d, loss=4.0, seed=s) for d in (32, 48) for s in range(2)]
    real = [make_run(d_model=d, loss=4.2, seed=7) for d in (32, 48, 64)]
    rows = [line.split() for line in tables(compare_sweeps(quick, real, ("quick", "real"))).splitlines()]
    assert ["2x32,", "102k", "tokens", "4.000", "4.200", "+5.0%"] in rows
    assert not any(row and row[0] == "2x64," for row in rows)
    other = [make_run(d_model=32, loss=4.2, steps=7)]
    assert "No loss to compare" in tables(compare_sweeps(quick, other, ("quick", "real")))


# ---- recipes of one folder -------------------------------------------------------


@pytest.fixture
def folder(make_run: MakeRun) -> list[Run]:
    """Three recipes at three sizes and three seeds: the loss falls by about 0.5, then rises by about 0.1."""
    rng = np.random.default_rng(3)
    return [
        make_run(recipe, d_model=d, steps=steps, seed=seed, loss=loss + 0.01 * float(rng.normal()))
        for recipe, steps, loss in (("v1", 100, 4.4), ("v1-long", 300, 3.9), ("v2", 300, 4.0))
        for d in (32, 48, 64)
        for seed in range(3)
    ]


def test_changes_are_paired_by_seed_with_students_t(folder: list[Run]) -> None:
    versus = compare_recipes(folder, "folder")
    assert [s.label for s in versus.sides] == ["V1", "V1-LONG", "V2"]
    assert [c.model for c in versus.changes] == ["2x32", "2x48", "2x64"]
    for change, d in zip(versus.changes, (32, 48, 64), strict=True):
        one, two = (
            np.array([r.val_loss for r in folder if (r.config.train.recipe, r.config.model.d_model) == (recipe, d)])
            for recipe in ("v1", "v2")
        )
        interval = stats.ttest_rel(two, one).confidence_interval(0.9)
        assert change.change == pytest.approx(float(np.mean(two - one)))
        assert (change.low, change.high) == pytest.approx((interval.low, interval.high))
    assert [(c.before, c.after, c.model) for c in versus.way] == [("V1", "V1-LONG", "2x64"), ("V1-LONG", "V2", "2x64")]
    assert versus.way[0].change == pytest.approx(-0.5, abs=0.02)
    assert versus.way[1].change == pytest.approx(0.1, abs=0.02)
    said = tables(versus)
    assert "At each size V2 trains on 3 times the tokens of V1." in said
    assert "V1 to V1-LONG: -0.490 [-0.4" in said


def test_one_seed_has_no_interval(folder: list[Run]) -> None:
    versus = compare_recipes([r for r in folder if r.config.train.seed == 0], "folder", ["v1", "v2"])
    assert [s.recipe for s in versus.sides] == ["v1", "v2"]
    assert np.isnan(versus.changes[0].low)
    assert "one seed, so without an interval" in tables(versus)
    assert not versus.way


def test_a_diverged_run_is_named_and_in_no_mean(folder: list[Run], make_run: MakeRun) -> None:
    lost = make_run("v2", d_model=32, steps=300, seed=7, loss=None)
    versus = compare_recipes([*folder, lost], "folder")
    assert versus.changes[0].seeds == 3
    assert f"Diverged, and in no fit: {lost.run_id}" in tables(versus)


def test_one_run_each_is_compared_without_a_law(make_run: MakeRun) -> None:
    versus = compare_recipes([make_run("v1", loss=4.5), make_run("v2", steps=300, loss=4.0)], "folder")
    assert "No exponent" in tables(versus)
    assert versus.changes[0].change == pytest.approx(-0.5)
    plt.close(plot_versus(versus))


def test_what_cannot_be_compared_is_refused(folder: list[Run]) -> None:
    with pytest.raises(InputError, match="holds one recipe"):
        compare_recipes([r for r in folder if r.config.train.recipe == "v2"], "folder")
    with pytest.raises(InputError, match="it holds v1, v1-long, v2"):
        compare_recipes(folder, "folder", ["v2", "wsd"])
    with pytest.raises(InputError, match="no runs of recipe 'wsd'"):
        compare_sweeps(folder, folder, ("a", "b"), "wsd")


def test_the_cheaper_sweep_is_the_quick_look_and_the_common_recipe_is_taken(make_run: MakeRun) -> None:
    small = [*sweep(make_run, 0.3, (16, 32, 48)), *sweep(make_run, 0.3, (16, 32, 48), recipe="v1")]
    large = [*sweep(make_run, 0.3), *sweep(make_run, 0.3, recipe="wsd")]
    for versus in (compare_sweeps(small, large, ("s", "l")), compare_sweeps(large, small, ("l", "s"))):
        assert [s.label for s in versus.sides] == ["s V2", "l V2"]
    assert [s.recipe for s in compare_sweeps(small[3:], large[8:], ("s", "l")).sides] == ["v1", "wsd"]


# ---- the figure and the command --------------------------------------------------


def test_each_text_has_panels_of_its_own_and_every_axis_its_unit(make_run: MakeRun, folder: list[Run]) -> None:
    versus = compare_sweeps(sweep(make_run, 0.3), sweep(make_run, 0.4, fingerprint="b" * 64), ("quick", "real"))
    figure = plot_versus(versus)
    exponents, *panels = figure.axes
    assert exponents.get_xlabel() == "exponent, with 90% interval"
    assert len(panels) == 4
    drawn = [a for a in panels if a.lines]
    assert [a.get_title().split("\n")[0] for a in drawn] == ["quick V2", "real V2"]
    assert all("nats per token" in a.get_ylabel() and "parameters N" in a.get_xlabel() for a in drawn)
    plt.close(figure)
    figure = plot_versus(compare_recipes(folder, "folder"))
    assert len(figure.axes) == 3
    assert len(figure.axes[1].get_legend().get_texts()) == 3  # one text: the recipes share a panel
    plt.close(figure)


def call(*argv: object) -> int:
    try:
        return main([str(a) for a in argv])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def place(tmp_path: Path, make_run: MakeRun, folder: list[Run], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``runs/demo``, ``runs/quick`` and no committed results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_show, "RESULTS", tmp_path / "nowhere")
    for run in folder:
        write_run(run, tmp_path / "runs" / "demo")
    for run in sweep(make_run, 0.3, steps=2000, fingerprint="b" * 64):
        write_run(run, tmp_path / "runs" / "quick")
    return tmp_path


def test_compare_prints_tables_and_the_figures_path(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", "runs/demo", "runs/quick") == 0
    out = capsys.readouterr().out
    assert "demo V2" in out
    assert "Losses are not compared" in out
    path = Path(out.splitlines()[-1].removeprefix("figure: "))
    assert path == Path("figures/compare-demo-quick.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert call("compare", "runs/demo", "--out", "o", "--recipe", "v1", "--recipe", "v2") == 0
    assert (place / "o" / "compare-runs-demo.png").exists()
    assert "V1-LONG" not in capsys.readouterr().out


def test_without_folders_the_recipes_and_the_largest_sweep_are_compared(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", "--json") == 0
    recipes, sweeps = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (recipes["name"], recipes["of_recipes"]) == ("runs/demo", True)
    assert [s["label"] for s in sweeps["sides"]] == ["demo V2", "quick V2"]
    assert sweeps["why_not_losses"].startswith("the texts differ")
    assert sweeps["sides"][1]["exponents"]["alpha of L(N)"]["value"] == pytest.approx(0.3, abs=0.05)
    assert Path(sweeps["figure"]).exists()


def test_without_folders_and_records_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_show, "RESULTS", tmp_path / "nowhere")
    assert call("compare") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "run the demo first" in err


BAD = {
    "three folders": (["runs/demo", "runs/quick", "runs/demo"], "one folder or two"),
    "missing folder": (["runs/demo", "none"], "no such folder"),
    "one recipe": (["runs/quick"], "holds one recipe"),
    "one of several": (["runs/demo", "--recipe", "v2"], "nothing beside it; name two of"),
    "two recipes of two": (["runs/demo", "runs/quick", "--recipe", "v1", "--recipe", "v2"], "one --recipe"),
    "recipe of none": (["--recipe", "v1"], "goes with folders"),
    "recipe not there": (["runs/demo", "runs/quick", "--recipe", "v1"], "it holds v2"),
}


@pytest.mark.parametrize(("argv", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_exit_2_and_draws_nothing(
    argv: list[str], says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare", *argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err
    assert not (place / "figures").exists()

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
OTHER_TEXT = {"fingerprint": "b" * 64}


def n_of(d: int) -> int:
    return 24 * d**2 + 6 * d  # two layers: 12 L d^2 + (2 L + 2) d


def sweep(
    make_run: MakeRun, alpha: float, widths: Sequence[int] = WIDTHS, *, noise: float = 1e-3, **others: object
) -> list[Run]:
    """Runs on L = 2 + 2 (10^5 / N)^alpha."""
    rng = np.random.default_rng(len(widths))
    return [
        make_run(d_model=d, loss=(2 + 2 * (1e5 / n_of(d)) ** alpha) * float(np.exp(noise * rng.normal())), **others)
        for d in widths
    ]


def texts(versus: Versus, right: bool | None) -> str:
    return "; ".join(text for found, text in versus.findings if found is right)


# ---- exponents -------------------------------------------------------------------


def test_the_real_sweep_judges_the_quick_looks_exponents(make_run: MakeRun) -> None:
    real = sweep(make_run, 0.3, (*WIDTHS, 256, 384), steps=200, **OTHER_TEXT)
    names = ("quick", "real")
    assert "holds the real estimate" in texts(compare_sweeps(sweep(make_run, 0.3), real, names), True)
    assert "wholly above" in texts(compare_sweeps(sweep(make_run, 0.8), real, names), False)
    lower = compare_sweeps(sweep(make_run, 0.3), sweep(make_run, 0.8, steps=900), names)
    assert "wholly below" in texts(lower, False)
    vague = compare_sweeps(sweep(make_run, 0.3, WIDTHS[2:7], noise=3e-2), real, names)
    e = vague.sides[0].exponents["alpha of L(N)"]
    assert e.high > 3 * e.low
    assert "excludes little" in texts(vague, None)
    flat = [make_run(d_model=d, loss=4 + 0.1 * float(v)) for d, v in zip(WIDTHS, RNG.normal(size=8), strict=True)]
    assert "could not tell" in texts(compare_sweeps(flat, real, names), None)
    both = compare_sweeps(flat, [make_run(d_model=d, steps=200, loss=4 - 1e-4 * d) for d in (16, 32, 48)], names)
    assert "neither gives a number" in texts(both, True)


RNG = np.random.default_rng(0)


# ---- losses, where they may be compared ------------------------------------------


@pytest.mark.parametrize(("others", "says"), [(OTHER_TEXT, "texts"), ({"vocab_size": 600}, "vocabularies")])
def test_losses_of_two_texts_or_vocabularies_are_never_compared(
    make_run: MakeRun, others: dict[str, object], says: str
) -> None:
    versus = compare_sweeps(sweep(make_run, 0.3, WIDTHS[:6]), sweep(make_run, 0.3, **others), ("quick", "real"))
    assert f"the {says} differ" in versus.why_not_losses
    assert versus.why_not_losses in tables(versus)
    assert not any("larger runs" in text for _, text in versus.findings)


def test_larger_runs_of_the_same_text_judge_the_quick_looks_law(make_run: MakeRun) -> None:
    quick = sweep(make_run, 0.3, WIDTHS[:6], noise=5e-4)
    versus = compare_sweeps(quick, sweep(make_run, 0.3, WIDTHS, noise=5e-4), ("quick", "real"))
    assert versus.why_not_losses == ""
    assert f"2 larger runs, up to {n_of(192) / n_of(96):.3g} times: mean error 0." in texts(versus, True)
    assert "2 of 2 inside" in texts(versus, True)
    bent = [*quick, *(make_run(d_model=d, loss=2.9) for d in (128, 192))]  # where the law says about 2.6
    assert "0 of 2 inside" in texts(compare_sweeps(quick, bent, ("quick", "real")), False)
    for other in ({"steps": 200}, {"recipe": "wsd"}):
        assert "larger runs" not in texts(compare_sweeps(quick, sweep(make_run, 0.3, **other), ("q", "r")), True)


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
    assert [c.cell.d_model for c in versus.changes] == [32, 48, 64]
    for change in versus.changes:
        one, two = (
            np.array([r.val_loss for r in folder if (r.config.train.recipe, r.config.model) == (recipe, change.cell)])
            for recipe in ("v1", "v2")
        )
        interval = stats.ttest_rel(two, one).confidence_interval(0.9)
        assert change.change == pytest.approx(float(np.mean(two - one)))
        assert (change.low, change.high) == pytest.approx((interval.low, interval.high))
    assert [(a.label, b.label, c.cell.name) for a, b, c in versus.way] == [
        ("V1", "V1-LONG", "2x64"), ("V1-LONG", "V2", "2x64")
    ]  # fmt: skip
    assert [c.change for *_, c in versus.way] == pytest.approx([-0.5, 0.1], abs=0.02)
    said = tables(versus)
    assert "At each size V2 trains on 3 times the tokens of V1." in said
    assert f"V1 to V1-LONG: {versus.way[0][2].change:+.3f} [" in said


def test_one_seed_has_no_interval_and_a_diverged_run_is_in_no_mean(folder: list[Run], make_run: MakeRun) -> None:
    versus = compare_recipes([r for r in folder if r.config.train.seed == 0], "folder", ["v1", "v2"])
    assert np.isnan(versus.changes[0].low)
    assert "one seed" in tables(versus)
    lost = make_run("v2", d_model=32, steps=300, seed=7, loss=None)
    versus = compare_recipes([*folder, lost], "folder")
    assert versus.changes[0].seeds == 3
    assert lost.run_id in tables(versus)
    alone = compare_recipes([make_run("v1", loss=4.5), make_run("v2", steps=300, loss=4.0)], "folder")
    assert "No exponent" in tables(alone)
    assert alone.changes[0].change == pytest.approx(-0.5)
    plt.close(plot_versus(alone))


def test_the_cheaper_sweep_is_the_quick_look_and_the_common_recipe_is_taken(make_run: MakeRun) -> None:
    small = [*sweep(make_run, 0.3, (16, 32, 48)), *sweep(make_run, 0.3, (16, 32, 48), recipe="v1")]
    large = [*sweep(make_run, 0.3), *sweep(make_run, 0.3, recipe="wsd")]
    for versus in (compare_sweeps(small, large, ("s", "l")), compare_sweeps(large, small, ("l", "s"))):
        assert [s.label for s in versus.sides] == ["s V2", "l V2"]
    assert [s.recipe for s in compare_sweeps(small[3:], large[8:], ("s", "l")).sides] == ["v1", "wsd"]
    with pytest.raises(InputError, match="it holds v2, wsd"):
        compare_recipes(large, "folder", ["v2", "v3"])


# ---- the figure and the command --------------------------------------------------


def test_each_text_has_panels_of_its_own_and_every_axis_its_unit(make_run: MakeRun, folder: list[Run]) -> None:
    versus = compare_sweeps(sweep(make_run, 0.3), sweep(make_run, 0.4, **OTHER_TEXT), ("quick", "real"))
    exponents, *panels = plot_versus(versus).axes
    ends = [line.get_xdata() for line in exponents.lines if len(line.get_xdata()) == 2]
    told = [s.exponents["alpha of L(N)"] for s in versus.sides]
    assert np.ravel(ends) == pytest.approx([v for row in told for v in (row.low, row.high)])
    drawn = [a for a in panels if a.lines]
    assert [a.get_title().split("\n")[0] for a in drawn] == ["quick V2", "real V2"]
    assert all("nats per token" in a.get_ylabel() and "parameters N" in a.get_xlabel() for a in drawn)
    assert not any(a.get_legend() for a in drawn)  # the title says whose they are
    _, panel, _ = plot_versus(compare_recipes(folder, "folder")).axes
    assert len(panel.get_legend().get_texts()) == 3  # one text: the recipes share a panel


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
    for run in sweep(make_run, 0.3, steps=2000, **OTHER_TEXT):
        write_run(run, tmp_path / "runs" / "quick")
    return tmp_path


def test_compare_prints_tables_and_the_figures_path(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", "runs/demo", "runs/quick") == 0
    path = Path(capsys.readouterr().out.splitlines()[-1].removeprefix("figure: "))
    assert path == Path("figures/compare-demo-quick.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert call("compare", "runs/demo", "--out", "o", "--recipe", "v1", "--recipe", "v2") == 0
    assert (place / "o" / "compare-runs-demo.png").exists()
    assert "V1-LONG" not in capsys.readouterr().out


def test_without_folders_the_recipes_and_the_largest_sweep_are_compared(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("compare", "--json") == 0
    recipes, sweeps = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (recipes["name"], recipes["of_recipes"]) == ("runs/demo", True)
    assert len(recipes["one_change_at_a_time"]) == 2
    assert [s["label"] for s in sweeps["sides"]] == ["demo V2", "quick V2"]
    assert sweeps["sides"][1]["exponents"]["alpha of L(N)"]["value"] == pytest.approx(0.3, abs=0.05)
    assert Path(sweeps["figure"]).exists()
    (place / "empty").mkdir()
    monkeypatch.chdir(place / "empty")
    assert call("compare") == 2
    assert "run the demo first" in capsys.readouterr().err


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
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert not (place / "figures").exists()

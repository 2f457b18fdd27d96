"""The command ``predict``: laws of known truth, published constants, and refusals that are answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling_lib.cli import main
from scaling_lib.fit.report import fit_table
from scaling_lib.fit.table import read_table
from scaling_lib.runs import Run, write_run
from scaling_lib.show.predict import ask, find_source, parse_target

E, A, B, ALPHA, BETA = 1.7, 400.0, 1500.0, 0.34, 0.36
Capture = pytest.CaptureFixture[str]


def truth(n: float, d: float) -> float:
    return E + A / n**ALPHA + B / d**BETA


def predict(capsys: Capture, *argv: object, status: int = 0) -> str:
    try:
        code = main(["predict", *map(str, argv)])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    assert code == status, err
    return out if status == 0 else err


def answers(capsys: Capture, source: object, *targets: str, options: Iterable[object] = ()) -> list[dict[str, Any]]:
    words = [word for target in targets for word in ("--target", target)]
    found = json.loads(predict(capsys, source, *words, *options, "--json"), parse_constant=pytest.fail)
    return list(found["answers"])


def write(path: Path, heads: str, rows: Iterable[Iterable[object]]) -> Path:
    path.write_text("\n".join([heads, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


# ---- known truth -----------------------------------------------------------------


def test_a_joint_law_answers_at_n_and_d_at_two_of_three_and_at_a_budget(tmp_path: Path, capsys: Capture) -> None:
    rng, c = np.random.default_rng(0), 1e22
    grid = [(n, d) for n in np.geomspace(1e7, 1e10, 7) for d in np.geomspace(1e9, 1e12, 7)]
    rows = [(n, d, truth(n, d) * np.exp(5e-4 * rng.standard_normal())) for n, d in grid]
    path = write(tmp_path / "joint.csv", "N,D,loss", rows)
    both, third, budget = answers(capsys, path, "N=2e10,D=4e11", f"N=1e9,C={6 * 1e9 * 5e10}", f"C={c}")
    assert both["loss"] == pytest.approx(truth(2e10, 4e11), rel=2e-3)
    assert third["at"]["D"] == pytest.approx(5e10)
    assert third["loss"] == pytest.approx(truth(1e9, 5e10), rel=1e-3)
    g = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))  # Hoffmann et al. 2022, equation 4
    n = g * (c / 6) ** (BETA / (ALPHA + BETA))
    low, high = budget["optimal"]["n_interval"]
    assert low < n < high
    assert budget["optimal"]["n_params"] == pytest.approx(n, rel=0.1)
    assert 6 * budget["at"]["N"] * budget["at"]["D"] == pytest.approx(c)
    assert budget["loss"] == pytest.approx(truth(n, c / (6 * n)), rel=2e-3)
    for a in (both, third, budget):
        ends = [*a["mean_interval"], *a["new_run_interval"], a["loss"]]
        assert np.argsort(ends).tolist() == [2, 0, 4, 1, 3]
    narrow, wide = (
        np.ptp(answers(capsys, path, "N=1e9,D=1e11", options=["--level", level])[0]["mean_interval"])
        for level in (0.5, 0.99)
    )
    assert wide > 2 * narrow


def test_a_law_of_one_variable_speaks_only_where_its_runs_were(tmp_path: Path, capsys: Capture) -> None:
    sizes = (1e7, 3e7, 1e8, 3e8, 1e9, 3e9)
    path = write(tmp_path / "c.csv", "N,D,loss", [(n, 20 * n, 1.5 + 300 / (120 * n**2) ** 0.12) for n in sizes])
    on, off = answers(capsys, path, "N=5e9,D=1e11", "N=5e9,D=5e9")
    assert on["loss"] == pytest.approx(1.5 + 300 / (6 * 5e9 * 1e11) ** 0.12, rel=1e-3)
    assert (off["refused"], off["loss"]) == (True, None)
    assert "20 tokens per parameter" in off["reasons"][0]
    path = write(tmp_path / "d.csv", "D,loss", [(d, 2 + 900 / d**0.3) for d in np.geomspace(1e8, 1e10, 7)])
    alone, both, model = answers(capsys, path, "D=2e10", "N=1e10,D=2e10", "GPT-3")
    assert alone["loss"] == pytest.approx(2 + 900 / 2e10**0.3, rel=1e-3)
    assert both["refused"]
    assert "knows nothing of parameters" in both["reasons"][0]
    assert model["refused"]
    exact, named = answers(capsys, "kaplan-n", "N=1e9,D=2e10", "GPT-3 1.3B")  # all counts of a model are known
    assert (exact["refused"], named["refused"]) == (True, False)


# ---- published laws --------------------------------------------------------------


def test_published_laws_give_their_papers_values_and_know_their_range(capsys: Capture) -> None:
    gpt3, gpt4, llama = answers(capsys, "chinchilla-epoch-printed")  # E 1.8172, A 482.01, B 2085.43, .3478, .3658
    assert [a["target"] for a in (gpt3, gpt4, llama)] == ["GPT-3 175B", "GPT-4 (rumour)", "Llama 3 405B"]
    assert [round(a["loss"], 2) for a in (gpt3, gpt4, llama)] == [2.01, 1.88, 1.89]
    assert gpt3["mean_interval"] is None
    assert "rumour" in gpt4["note"]
    (a,) = answers(capsys, "gpt3-compute", "GPT-3")
    assert a["loss"] == pytest.approx(2.57 * (3.14e23 / 8.64e19) ** -0.048, rel=1e-6)
    (a,) = answers(capsys, "KAPLAN-N", "N=1e9")
    assert a["loss"] == pytest.approx((8.8e13 / 1e9) ** 0.076, rel=1e-6)
    (a,) = answers(capsys, "chinchilla-epoch", "C=5.76e23")
    # Besiroglu et al. 2024: about 20 tokens per parameter at Chinchilla's budget.
    assert 15 < a["optimal"]["tokens_per_param"] < 25
    assert a["mean_interval"][0] < a["loss"] < a["mean_interval"][1]
    assert a["new_run_interval"] is None  # its runs' noise is not published
    assert "seen once" in predict(capsys, "muennighoff", "--target", "Chinchilla")
    for a in answers(capsys, "chinchilla", "C=1000", "C=1e40"):
        assert (a["refused"], a["loss"], a["verdict"]) == (True, None, "out of range")


def test_models_are_known_by_name_or_family() -> None:
    for text, name in (
        ("GPT-3", "GPT-3 175B"), ("gpt4", "GPT-4 (rumour)"), ("llama 3", "Llama 3 405B"), ("LLAMA-2", "Llama 2 70B"),
        ("gpt-3 1.3b", "GPT-3 1.3B"), ("chinchilla", "Chinchilla"),
    ):  # fmt: skip
        assert parse_target(text).name == name


# ---- folders of records ----------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, make_run: Callable[..., Run]) -> Path:
    """V1 without a trend, V2 on L = 2 + 30 / N^0.3, six sizes of one length each."""
    noise = np.random.default_rng(1)
    for d in (16, 24, 32, 48, 64, 96, 128, 192):
        loss = (2 + 30 / (24 * d**2 + 6 * d) ** 0.3) * float(np.exp(1e-3 * noise.standard_normal()))
        write_run(make_run("v2", d_model=d, steps=300, loss=loss), tmp_path / "runs")
        write_run(make_run("v1", d_model=d, loss=4.0 + 0.1 * float(noise.standard_normal())), tmp_path / "runs")
    return tmp_path / "runs"


def test_a_ladder_answers_near_its_runs_and_refuses_what_is_far_or_another_length(
    folder: Path, tmp_path: Path, make_run: Callable[..., Run], capsys: Capture
) -> None:
    near, same, far, other, budget = answers(
        capsys, folder, "N=2e6", "N=2e6,D=307200", "GPT-3", "N=2e6,D=1e7", "C=1e14"
    )
    for a in (near, same):
        assert a["loss"] == pytest.approx(2 + 30 / 2e6**0.3, rel=5e-3)
    assert (far["refused"], far["verdict"]) == (True, "not identifiable")
    assert "307k tokens and the target has 10M" in other["reasons"][0]
    assert budget["verdict"] == "no law"
    text = " ".join(predict(capsys, folder, "--target", "GPT-3").split())
    assert far["reasons"][0] in text
    (a,) = answers(capsys, folder, "N=2e6", options=["--recipe", "v1"])
    assert (a["verdict"], a["refused"], a["loss"]) == ("no trend", True, None)
    write_run(make_run(), tmp_path / "one")
    assert "fewer than three sizes" in predict(capsys, tmp_path / "one")
    for options, says in (("--law=power_n", "leave it out"), ("--recipe=wsd", "it holds v1, v2")):
        assert says in predict(capsys, folder, options, status=2)


def test_a_grid_answers_at_n_and_d_and_at_a_budget(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    noise = np.random.default_rng(2)
    for d, steps in ((d, steps) for d in (16, 32, 64, 128, 256) for steps in (100, 300, 1000, 3000)):
        n, tokens = 24 * d**2 + 6 * d, steps * 1024
        loss = (2 + 30 / n**0.3 + 60 / tokens**0.3) * float(np.exp(1e-3 * noise.standard_normal()))
        write_run(make_run("wsd", d_model=d, steps=steps, loss=loss), tmp_path / "grid")
    source = find_source(str(tmp_path / "grid"))
    (a,) = ask(source, parse_target("N=1e6,D=1e7"))
    assert a.loss == pytest.approx(2 + 30 / 1e6**0.3 + 60 / 1e7**0.3, rel=2e-2)
    (b,) = ask(source, parse_target("C=6e12"))
    # Equal exponents: N* / D* = (A / B)^(1 / alpha), whatever the budget.
    assert b.optimal is not None
    low, high = b.optimal["n_interval"]
    assert low < np.sqrt(1e12 * (30 / 60) ** (1 / 0.3)) < high
    (c,) = ask(source, parse_target("N=1e6"))  # at the ladder's own length
    assert c.law.startswith("L(N) of 5 runs")


# ---- tables and bad input --------------------------------------------------------


def test_headings_and_rows_can_be_named(tmp_path: Path, capsys: Capture) -> None:
    grid = [(n, d) for n in np.geomspace(1e7, 1e9, 5) for d in np.geomspace(1e9, 1e11, 5)]
    rows = [(n, d, truth(n, d), e) for n, d in grid for e in "ab"]
    path = write(tmp_path / "t.csv", "active_params_x,seen_tokens_y,end,dataset", rows)
    names = ["--columns", "N=active_params_x,D=seen_tokens_y", "--columns", "loss=end"]
    assert "--where dataset=a " in predict(capsys, path, *names, status=2)
    (a,) = answers(capsys, path, "N=2e9,D=2e11", options=[*names, "--where", "dataset=a"])
    assert a["loss"] == pytest.approx(truth(2e9, 2e11), rel=1e-3)


DOORS: dict[str, list[tuple[float, ...]]] = {
    "N,D,loss": [(n, d, truth(n, d)) for n in np.geomspace(1e7, 1e9, 5) for d in np.geomspace(1e9, 1e11, 5)],
    "N,loss": [(n, truth(n, 1e10)) for n in np.geomspace(1e7, 1e10, 8)],
    "N,D,Loss": [(n, 1e10, truth(n, 1e10)) for n in np.geomspace(1e7, 1e10, 8)],
    "C,loss": [(c, 1.7 + 100 / c**0.1) for c in np.geomspace(1e17, 1e21, 8)],
}


@pytest.mark.parametrize("heads", DOORS)
def test_one_question_gets_one_answer_by_every_door(heads: str, tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "t.csv", heads, DOORS[heads])
    targets = ["N=2e9,D=2e11", "N=2e10", "D=2e10", "C=1e22", "N=2e9,D=1e10", "GPT-3", "N=5,D=5"]
    keys = ("loss", "mean_interval", "new_run_interval", "verdict", "refused", "reasons")
    found = [[a[k] for k in keys] for a in answers(capsys, path, *targets)]
    main(["fit", str(path), *(f"--predict={target}" for target in targets), "--json"])
    assert [[p[k] for k in keys] for p in json.loads(capsys.readouterr().out)["predictions"]] == found
    made = fit_table(read_table(path), predict=targets)
    assert [p.loss for p in made.predictions] == [loss for loss, *_ in found]
    assert any(loss is None for loss, *_ in found)
    assert any(loss is not None for loss, *_ in found)


def test_a_folder_answers_the_same_by_both_doors(folder: Path, capsys: Capture) -> None:
    found = answers(capsys, folder, "N=2e6", "N=2e6,D=1e7", "C=1e14", options=["--recipe", "v2"])
    main(["fit", str(folder), "--recipe=v2", "--predict=N=2e6", "--predict=N=2e6,D=1e7", "--predict=C=1e14", "--json"])
    told = json.loads(capsys.readouterr().out)["predictions"]
    assert [(p["loss"], p["verdict"]) for p in told] == [(a["loss"], a["verdict"]) for a in found]


BAD = {
    "columns without a heading": (["x.csv", "--columns", "N"], "role=heading"),
    "columns of a law": (["kaplan-n", "--columns", "N=n"], "leave it out"),
    "unknown model": (["kaplan-n", "--target", "GPT-9"], "one of GPT-3 125M"),
    "unknown variable": (["kaplan-n", "--target", "X=3"], "names N, D, C"),
    "unknown source": (["nowhere"], "neither a folder"),
    "missing table": (["none.csv"], "cannot be read"),
    "level nan": (["kaplan-n", "--level", "nan"], "between 0 and 1"),
    "law of a law": (["kaplan-n", "--law", "power_n"], "one published law"),
    "recipe of a law": (["kaplan-n", "--recipe", "v2"], "leave it out"),
}


@pytest.mark.parametrize(("argv", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_exit_2(
    argv: list[str], says: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    err = predict(capsys, *argv, status=2)
    assert err.count("\n") == 1
    assert says in err

"""The study of learning rates read: optimum, edges, what the width rule loses, and how the optimum falls with width."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from scaling_lib.cli import main
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, read_runs, write_run
from scaling_lib.show.rates import is_rate_study, plot_rates, rate_report, rate_scans, width_power
from scaling_lib.sweep.recipes import MODES, peak_lr
from tools.digest import digest_folder
from tools.experiment_summary import rates

mpl.use("agg")
Make = Callable[..., Run]
COMMITTED = Path(__file__).parent.parent / "results" / "lr-study"


def at_rate(run: Run, lr: float) -> Run:
    train = replace(run.config.train, lr=lr)
    return replace(run, run_id=f"{run.run_id}-{lr:g}", config=replace(run.config, train=train))


def rule(d_model: int) -> float:
    """A width rule for the made studies: what they show must not hang on the rule of the day."""
    return 0.32 / d_model


def study(make_run: Make, optimum: Callable[[int], float], factors=(0.25, 0.5, 1, 2, 4), seeds=(0,)) -> list[Run]:
    """Losses on a parabola in ln(rate) about the optimum of each width."""
    made = []
    for d, steps, factor, seed in itertools.product((32, 64, 128), (100, 400), factors, seeds):
        loss = 3 + 0.1 * math.log(rule(d) * factor / optimum(d)) ** 2
        made.append(at_rate(make_run("wsd", d_model=d, steps=steps, seed=seed, loss=loss), rule(d) * factor))
    return made


def test_the_parabolas_lowest_point_is_the_optimum(make_run: Make) -> None:
    runs = study(make_run, lambda d: 0.3 / d)
    scans = rate_scans(runs, rule)
    assert [(s.model.d_model, s.n_tokens) for s in scans] == [(d, s * 1024) for d in (32, 64, 128) for s in (100, 400)]
    for scan in scans:
        assert scan.interior
        assert scan.optimum == pytest.approx(0.3 / scan.model.d_model, rel=1e-6)
        assert scan.rule == rule(scan.model.d_model)
        assert scan.rule_excess == pytest.approx(0.0, abs=1e-12)  # the rule's own rate is the best of the five
    apart = rate_scans(study(make_run, lambda d: 0.32 / d, factors=(0.5, 2, 4)), rule)[0]  # between two rates
    middle = np.interp(np.log(apart.rule), np.log(apart.rates), apart.losses)
    assert apart.rule_excess == pytest.approx(middle / apart.losses.min() - 1)


def test_the_power_of_the_width_is_found_beside_a_level_for_each_length(make_run: Make) -> None:
    scans = rate_scans(study(make_run, lambda d: 0.02 * (32 / d) ** 0.7), rule)
    longer = [s._replace(rates=s.rates * 0.8) if s.n_tokens > 200_000 else s for s in scans]
    assert width_power(longer) == pytest.approx((0.7, 0.0), abs=1e-6)


def test_a_study_of_one_width_has_no_power_of_it(make_run: Make, tmp_path: Path) -> None:
    for run in study(make_run, lambda d: 0.3 / d):
        if run.config.model.d_model == 64:
            write_run(run, tmp_path / "one")
    found = digest_folder(tmp_path, rule)
    assert found["one"]["rates"]["width_power"] is None
    ((_, scans, inside, _, power, error),) = rates(found, {})
    assert (scans, inside, power, error) == ("2", "2", "-", "-")


def test_an_optimum_at_the_edge_is_said_and_not_believed(make_run: Make) -> None:
    alone = [make_run("v2", d_model=d) for d in (16, 32, 64)]
    assert not is_rate_study(alone)
    with pytest.raises(InputError, match="--mode lr-study"):
        rate_scans(alone, rule)
    runs = study(make_run, lambda d: 100 / d)  # far above all rates tried
    scans = rate_scans(runs, rule)
    assert not any(s.interior for s in scans)
    assert all(math.isnan(s.optimum) for s in scans)
    assert all(s.rule_excess > 0.01 for s in scans)
    report = rate_report(runs, rule)
    assert "at edge" in report
    assert "between the rates tried: NO" in report
    assert math.isnan(width_power(scans)[0])


def test_seeds_are_averaged_and_a_rate_that_diverges_never_wins(make_run: Make) -> None:
    runs = study(make_run, lambda d: 0.32 / d, seeds=(0, 1))
    runs[3] = replace(runs[3], status="diverged", val_loss=None)
    scans = rate_scans(runs, rule)
    assert {s.seeds for s in scans} == {2}
    assert math.isinf(scans[0].losses[1])
    assert scans[0].best == 2
    assert scans[0].optimum == scans[0].rates[2]  # beside a hole no parabola
    assert "diverged" in rate_report(runs, rule)


def test_the_command_prints_the_study_and_the_figure_has_a_panel_a_length(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = study(make_run, lambda d: 0.3 / d)
    for run in runs:
        write_run(run, tmp_path)
    assert main(["summary", str(tmp_path)]) == 0
    assert capsys.readouterr().out == rate_report(read_runs(tmp_path), peak_lr) + "\n"
    figure = plot_rates(runs, rule)
    assert [a.get_title() for a in figure.axes] == ["102k tokens", "410k tokens"]
    for axes in figure.axes:
        drawn = [line for line in axes.lines if len(line.get_xdata()) == 5]
        assert [line.get_label() for line in drawn] == ["2x32", "2x64", "2x128"]
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [
            rule(d) for d in (32, 64, 128)
        ]


def test_the_shipped_study_justifies_the_rule() -> None:
    """Three widths, two lengths, five rates a factor of 2 apart: nothing at an edge, and the rule's own is the best."""
    laptop, runs = MODES["laptop"], read_runs(COMMITTED)
    assert {run.config.model.positions for run in runs} == {laptop.model(0).positions}
    assert {run.config.train.batch_size for run in runs} == {laptop.batch_size}
    scans = rate_scans(runs, peak_lr)
    assert len(scans) == 6
    assert len({s.model.d_model for s in scans}) == 3
    for scan in scans:
        assert scan.rates == pytest.approx(scan.rule * np.array([0.25, 0.5, 1, 2, 4]), rel=5e-3)
        assert scan.interior
        assert scan.best == 2
    power, error = width_power(scans)
    assert abs(power - 1.0) < 2.5 * error

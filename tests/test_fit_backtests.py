"""Back-tests: the published held-out errors, hiding rules, and simulated tables of known truth."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.backtests import (
    backtest,
    cerebras,
    epoch,
    interval_score,
    pythia,
)
from scaling_lib.fit.scores import MADE, as_markdown, pooled_scores, scoreboard, tables
from scaling_lib.fit.table import table_from_arrays


def like_epoch():
    """240 runs of Epoch's design (1.4e18 to 1.3e22 FLOP, 57M to 16B) on its certified law."""
    c = np.repeat(np.geomspace(1.4e18, 1.3e22, 24), 10)
    n = np.clip(0.35 * np.sqrt(c / 120) * np.tile(np.geomspace(1 / 6, 6, 10), 24), 57e6, 16e9)
    loss = published.laws["chinchilla-epoch"].predict(n, c / 6 / n)
    return table_from_arrays(loss, n_params=n, flops=c, source="like Epoch's")


def test_cerebras_13b_moves_with_the_number_of_models_as_published():
    results = cerebras()
    assert [round(100 * results[k].error[-1], 1) for k in (4, 5, 6)] == [4.5, -1.6, 1.6]
    six = results[6]
    assert six.labels == ("13B",)
    assert six.span[0] == pytest.approx(2.3e22 / 6.3e21)
    assert results[4].verdict.refused  # four sizes for three parameters
    assert abs(six.line_error[0]) < 0.005  # a straight line in ln L does better than a law with a floor here
    assert np.all(np.abs(six.nearest_error) > abs(six.error[0]))
    assert round(100 * cerebras("model_card")[6].error[-1], 1) == 1.3  # the two published rows disagree


def test_pythia_needs_the_non_embedding_count():
    results = pythia()
    assert [round(100 * e, 1) for e in results["non_embedding"].error] == [0.5, 0.5]
    assert [round(100 * e, 1) for e in results["total"].error] == [2.7, 4.0]
    assert results["non_embedding"].labels == ("6.9B", "12B")


@pytest.mark.skipif(
    not (Path(os.environ.get("SCALING_LIB_DATA", "nowhere")) / "chinchilla_epoch.csv").is_file(),
    reason="no chinchilla_epoch.csv under SCALING_LIB_DATA: the held-out errors on Epoch's data are lost",
)
def test_epoch_s_runs_above_a_cut_are_predicted():
    near = epoch(cut=1e21, method="delta")
    assert near.mean_abs_error < 0.012
    far = epoch(cut=3e19, method="delta")
    assert far.mean_abs_error < 0.010
    assert round(far.span.max()) == 443
    assert far.mean_abs_error < np.abs(far.line_error).mean() / 4
    assert far.mean_abs_error < np.abs(far.nearest_error).mean() / 5


def test_without_noise_the_hidden_runs_are_hit_exactly():
    result = backtest(like_epoch(), hide="C>3e19")
    assert result.fit.law.name == "chinchilla"
    assert result.mean_abs_error < 1e-5
    assert f"{result.span.max():.3g}x" in result.summary(rows=5)  # the farthest is always shown


def test_three_ways_to_hide_agree():
    t = published.cerebras_gpt()
    mask = np.array([False] * 5 + [True] * 2)
    by_mask = backtest(t, hide=mask, law="power_c")
    assert backtest(t, hide=2, law="power_c").error.tolist() == by_mask.error.tolist()
    assert backtest(t, hide=" C > 2e21 ", law="power_c").error.tolist() == by_mask.error.tolist()
    assert backtest(t, hide="N>=6.7e9", law="power_c").labels == ("6.7B", "13B")


def test_the_form_follows_from_what_varies():
    assert backtest(published.cerebras_gpt(), hide=1).fit.law.variables == ("C",)  # D = 20 N throughout
    assert backtest(published.pythia(), hide=1).fit.law.variables == ("N",)  # one D
    d = np.geomspace(1e9, 1e11, 8)
    only_d = table_from_arrays(2 + 300 / d**0.3, n_params=np.full(8, 1e8), n_tokens=d)
    assert backtest(only_d, hide=2).fit.law.variables == ("D",)
    bare = table_from_arrays(2 + 300 / d**0.3, n_tokens=d)
    result = backtest(bare, hide=2)
    assert result.fit.law.variables == ("D",)
    assert result.span[-1] == pytest.approx(1e11 / d[5])
    assert result.labels == ("row 7", "row 8")


def test_baselines_by_hand():
    n = np.array([1e6, 1e7, 1e8, 1e9, 1e10, 1e11])
    loss = 12 * n**-0.05  # a straight line of ln L in ln N: the line must be exact, the nearest run one off
    result = backtest(table_from_arrays(loss, n_params=n), hide=1)
    assert result.line_error[0] == pytest.approx(0, abs=1e-12)
    assert result.nearest_error[0] == pytest.approx(10**0.05 - 1)


@pytest.mark.parametrize(
    ("hide", "words"),
    [
        (0, "hides 0 of 7"),
        (7, "hides 7 of 7"),
        ("C>1e99", "hides 0"),
        ("big", "no condition"),
        ("C>1e", "unknown unit"),
        ("C=1e21", "compare with"),
        (np.zeros(3, dtype=bool), "7 booleans"),
        (np.zeros(7, dtype=bool), "the mask hides 0"),
        (5, "2 runs"),
    ],
)
def test_bad_input_is_one_line(hide, words):
    with pytest.raises(InputError, match=words) as caught:
        backtest(published.cerebras_gpt(), hide=hide, law="power_c")
    assert "\n" not in str(caught.value)


def test_the_scoreboard_counts_what_back_tests_say():
    table = published.cerebras_gpt()
    scores = scoreboard({"cerebras": table}, cuts=(10.0,))
    by_form = {s.form: s for s in scores}
    assert list(by_form) == ["pool", "power law", "line", "nearest run"]
    test = backtest(table, hide=2, law="power_c")
    own = by_form["power law"]
    assert (own.hidden, own.held) == (2, test.covered.sum())
    assert own.error == pytest.approx(test.mean_abs_error)
    assert own.score == pytest.approx(np.mean(interval_score(test.observed, test.low, test.high, 0.9)))
    near = by_form["nearest run"]
    assert near.error == pytest.approx(np.abs(test.nearest_error).mean())
    assert "| cerebras, 10x | 2 |" in as_markdown(scores)
    flat = [replace(s, level="no trend") for s in scores]
    assert "| cerebras, 10x | 2 | - | - | - | - | no trend |" in as_markdown(flat)
    quoted = by_form["pool"].level not in ("not identifiable", "no trend")
    assert set(pooled_scores(scores)) == (set(by_form) if quoted else set())
    with pytest.raises(InputError, match="no table has enough runs"):
        scoreboard({"few": table.select(table.loss > 1.8)})


def test_the_interval_score_pays_for_width_and_twenty_times_the_miss():
    assert interval_score(2.0, np.array([1.9, 2.1]), np.array([2.1, 2.2]), 0.9) == pytest.approx([0.1, 1.05])


def test_losses_that_a_form_made_are_no_table_to_score() -> None:
    assert {"cerebras", "pythia", "gemstones"} <= set(tables())
    assert MADE not in tables()

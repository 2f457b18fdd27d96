"""The scoreboard of forms against single back-tests."""

from dataclasses import replace

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.backtests import backtest, interval_score
from scaling_lib.fit.scoreboard import as_markdown, pooled_scores, scoreboard


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

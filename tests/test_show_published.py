"""Published laws in figure and table: numbers are the laws' own, bands only where a covariance is published."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from scaling_lib.fit import published
from scaling_lib.show.published import known_models, plot_published, prediction_table

mpl.use("agg")


def test_the_table_has_the_laws_numbers_and_the_interval_of_the_one_that_has_one() -> None:
    rows = prediction_table().splitlines()[1:]
    epoch, kaplan = published.laws["chinchilla-epoch"], published.laws["kaplan-joint"]
    assert len(rows) == 3
    for row, model in zip(rows, known_models(), strict=True):
        low, high = epoch.interval(model.n_params, model.n_tokens)
        loss = epoch.predict(model.n_params, model.n_tokens)
        assert f"{loss:.2f} [{low:.2f}, {high:.2f}]" in row
        assert row.endswith(f"{kaplan.predict(model.n_params, model.n_tokens):.2f}")


def test_the_old_notes_numbers_are_chinchillas() -> None:
    """GPT-3 about 2.0 and GPT-4 about 1.9, which the old notes expected of V2's own runs."""
    law = published.laws["chinchilla-epoch"]
    gpt3, gpt4 = known_models(["GPT-3 175B", "GPT-4 (rumour)"])
    assert law.predict(gpt3.n_params, gpt3.n_tokens) == pytest.approx(2.0, abs=0.05)
    assert law.predict(gpt4.n_params, gpt4.n_tokens) == pytest.approx(1.9, abs=0.05)


def test_each_law_names_its_text_and_the_marks_stand_at_the_models_own_tokens() -> None:
    axes = plot_published()
    texts = [t.get_text() for t in axes.get_legend().get_texts()]
    assert "MassiveText, SentencePiece" in texts[0]
    assert "WebText2" in texts[1]
    assert len(axes.collections) == 1
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    for line in marks[:3]:
        n, loss = line.get_xdata()[0], line.get_ydata()[0]
        (model,) = [m for m in known_models() if m.n_params == n]
        assert loss == pytest.approx(published.laws["chinchilla-epoch"].predict(n, model.n_tokens))
    assert np.isfinite([line.get_ydata()[0] for line in marks]).all()
    assert len(marks) == 6

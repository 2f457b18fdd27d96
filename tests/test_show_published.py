"""Published laws and models by name."""

from __future__ import annotations

import pytest

from scaling_lib.fit import published
from scaling_lib.show.published import known_models


def test_the_old_notes_numbers_are_chinchillas() -> None:
    """GPT-3 about 2.0 and GPT-4 about 1.9, which the old notes expected of V2's own runs."""
    law = published.laws["chinchilla-epoch"]
    gpt3, gpt4 = known_models(["GPT-3 175B", "GPT-4 (rumour)"])
    assert law.predict(gpt3.n_params, gpt3.n_tokens) == pytest.approx(2.0, abs=0.05)
    assert law.predict(gpt4.n_params, gpt4.n_tokens) == pytest.approx(1.9, abs=0.05)

"""Kaplan's exponent and Chinchilla's: the published ladder, and the counting that lies between them."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from scaling_lib.config import ModelConfig
from scaling_lib.counting import count_parameters, training_flops
from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.show.switches import (
    SWITCHES,
    count_optimum,
    five_switches,
    plot_counting,
    plot_switches,
    uncounted_share,
)

mpl.use("agg")
PORIAN = {  # Porian et al. 2024
    "refinedweb": (0.835, 0.706, 0.602, 0.571, 0.497),
    "openwebtext2": (0.864, 0.699, 0.603, 0.574, 0.518),
}


@pytest.mark.parametrize("corpus", list(PORIAN))
def test_the_ladder_is_the_published_one(corpus: str) -> None:
    steps = five_switches(corpus)
    assert tuple(s.exponent for s in steps) == PORIAN[corpus]
    assert steps[0].change == 0
    assert sum(s.change for s in steps) == pytest.approx(PORIAN[corpus][-1] - PORIAN[corpus][0])
    assert [s.name for s in steps] == list(SWITCHES)


def test_an_unknown_corpus_is_named() -> None:
    with pytest.raises(InputError, match="refinedweb, openwebtext2"):
        five_switches("c4")


@pytest.mark.parametrize(("name", "published_exponent"), [("chinchilla-epoch-printed", 0.78), ("chinchilla", 0.74)])
def test_counting_without_embeddings_gives_pearce_and_song_s_exponent(name: str, published_exponent: float) -> None:
    """They simulate 20 sizes and fit the frontier; we take the exact optimum, hence a hundredth apart."""
    assert count_optimum(published.laws[name], embeddings=False).slope == pytest.approx(published_exponent, abs=0.011)


def test_counting_with_embeddings_gives_the_law_s_own_exponent() -> None:
    p = published.laws["chinchilla-epoch"].params
    found = count_optimum(published.laws["chinchilla-epoch"], embeddings=True)
    assert found.slope == pytest.approx(p["beta"] / (p["alpha"] + p["beta"]), abs=1e-5)
    assert np.allclose(found.local, found.slope, atol=1e-3)


def test_the_optimum_is_where_the_slopes_of_both_terms_cancel() -> None:
    """d/dln N of A / N_T^alpha + B / D^beta at fixed 6 N_E D, in closed form."""
    law = published.laws["chinchilla-epoch"]
    p = law.params
    found = count_optimum(law, embeddings=False, points=12)
    n = found.n_params
    total = n + 47491 * n ** (1 / 3)
    share = (n + 47491 / 3 * n ** (1 / 3)) / total  # d ln N_T / d ln N_E
    d = (p["beta"] * p["B"] / (p["alpha"] * p["A"] * total ** -p["alpha"] * share)) ** (1 / p["beta"])
    assert np.allclose(found.flops, 6 * n * d, rtol=1e-4)
    assert n[0] == pytest.approx(768, rel=1e-3)
    assert n[-1] == pytest.approx(1.5e9, rel=1e-3)
    # Far above the vocabulary's weight both countings agree.
    far = count_optimum(law, embeddings=False, sizes=(1e13, 1e14), points=5)
    assert far.slope == pytest.approx(p["beta"] / (p["alpha"] + p["beta"]), abs=1e-3)


def test_what_six_n_d_leaves_out_is_the_rest_of_the_flops() -> None:
    for shape in (ModelConfig(2, 2, 32, 1024, 128), ModelConfig(6, 7, 168, 1024, 128)):
        head, attention = uncounted_share(shape)
        blocks = 6 * (count_parameters(shape).attention + count_parameters(shape).feed_forward)
        assert head + attention + blocks / training_flops(shape, 1) == pytest.approx(1)
    assert uncounted_share(ModelConfig(2, 2, 32, 1024, 128)) == pytest.approx((4 / 9, 2 / 9))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="rising"):
        count_optimum(published.laws["chinchilla-epoch"], True, sizes=(1e9, 1e6))


def test_the_figures_hold_the_numbers() -> None:
    axes = plot_switches()
    ladders = [line for line in axes.lines if len(line.get_ydata()) == 5]
    assert [tuple(line.get_ydata()) for line in ladders] == list(PORIAN.values())
    assert any("0.73" in t.get_text() for t in axes.texts)
    counting = plot_counting(published.laws["chinchilla-epoch"])
    labels = [t.get_text() for t in counting.get_legend().get_texts()]
    assert "0.79" in labels[0]
    assert "0.51" in labels[1]
    assert "FLOP" in counting.get_xlabel()

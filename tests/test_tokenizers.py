"""One text under two vocabularies: equal tokens, equal text and equal FLOPs are three questions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scaling_lib.config import RunConfig
from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.tokenizers import bytes_per_token, compare_tokenizers, plot_tokenizers
from scaling_lib.show.versus import compare_sweeps, plot_versus, tables, to_dict

MakeRun = Callable[..., Run]
SMALL, LARGE = 2.0, 3.5  # bytes per token
STEPS = (100, 200, 400, 800)


def ladder(
    make_run: MakeRun,
    vocab: int,
    per_token: float,
    noise: float = 0.0,
    widths: tuple[int, ...] = (32, 64),
    seeds: int = 2,
) -> list[Run]:
    """A text's bits per byte, by width and bytes read alone: the vocabulary changes nothing."""
    rng, runs = np.random.default_rng(vocab), []
    for d, seed, steps in ((d, seed, steps) for d in widths for seed in range(seeds) for steps in STEPS):
        bits = 10 * (steps * 1024 * per_token) ** -0.1 * (64 / d) ** 0.2 * math.exp(noise * rng.normal())
        where = {"d_model": d, "steps": steps, "seed": seed, "vocab_size": vocab}
        runs.append(make_run("wsd", **where, loss=bits * per_token * math.log(2), bits_per_byte=bits))
    return runs


@pytest.fixture
def both(make_run: MakeRun) -> tuple[list[Run], list[Run]]:
    return ladder(make_run, 512, SMALL), ladder(make_run, 4096, LARGE)


def test_a_law_in_bytes_is_the_same_at_equal_text_alone(both: tuple[list[Run], list[Run]]) -> None:
    found = compare_tokenizers(*both)
    assert found.bytes_per_token == pytest.approx((SMALL, LARGE))
    by = {(c.shape, c.equal): c for c in found.cells}
    for shape in ("2x32", "2x64"):
        # The larger vocabulary reads 1.75 times the text with the same tokens.
        assert by[shape, "tokens"].change == pytest.approx((LARGE / SMALL) ** -0.1 - 1, abs=1e-9)
        assert by[shape, "text"].change == pytest.approx(0.0, abs=1e-9)
        assert by[shape, "text"].at == pytest.approx(800 * 1024 * SMALL)
        assert by[shape, "training FLOPs"].change > by[shape, "tokens"].change
    assert found.nats[1] > found.nats[0], "nats per token say the opposite"


def test_the_noise_of_all_shapes_makes_the_interval(make_run: MakeRun) -> None:
    widths, held = (16, 32, 48, 64, 96), []
    for trial in range(40):
        first = ladder(make_run, 500 + trial, SMALL, 0.01, widths)
        second = ladder(make_run, 4000 + trial, LARGE, 0.01, widths)
        cells = [c for c in compare_tokenizers(first, second).cells if c.equal == "tokens"]
        held += [c.low <= (LARGE / SMALL) ** -0.1 - 1 <= c.high for c in cells]
        assert len({round(math.log1p(c.high) - math.log1p(c.low), 9) for c in cells}) == 1
    assert 0.8 <= np.mean(held) <= 0.98
    found = compare_tokenizers(ladder(make_run, 512, SMALL, seeds=1), ladder(make_run, 4096, LARGE, seeds=1))
    assert all(math.isnan(c.low) for c in found.cells)
    plot_tokenizers(found)


def test_what_is_not_one_text_one_recipe_and_two_vocabularies_is_refused(
    both: tuple[list[Run], list[Run]], make_run: MakeRun
) -> None:
    first, second = both
    short, brief = ([r for r in runs if r.config.train.max_steps == 100] for runs in both)
    long = [r for r in second if r.config.train.max_steps == 800]
    for a, b, says in (
        (first, first, "not the same"),
        (first, [replace(r, corpus={**r.corpus, "fingerprint": "e" * 64}) for r in second], "two"),
        ([*first, make_run("v2", vocab_size=512)], second, "--recipe"),
        (first, ladder(make_run, 4096, LARGE, widths=(128,)), "no layer shape, window and seed"),
        (short, long, "train the other for longer"),
    ):
        with pytest.raises(InputError, match=says):
            compare_tokenizers(a, b)
    found = compare_tokenizers(short, brief)
    assert {c.equal for c in found.cells} == {"tokens"}, "more text and FLOPs than the smaller has: no answer"
    assert [t.get_text() for t in plot_tokenizers(found).get_yticklabels()] == ["2x32, tokens", "2x64, tokens"]
    with pytest.raises(InputError, match="no bits per byte"):
        bytes_per_token(make_run("v2", bits_per_byte=None))


def test_compare_prints_it_for_two_folders_and_names_a_part_of_the_text(both: tuple[list[Run], list[Run]]) -> None:
    first, second = both
    versus = compare_sweeps(first, second, ("small", "large"))
    assert "-5.4%" in tables(versus)
    assert len(to_dict(versus)["tokenizers"]["cells"]) == 6
    assert any("bits per byte, 4,096 against 512" in a.get_xlabel() for a in plot_versus(versus).axes)
    half = [replace(r, corpus={**r.corpus, "n_val_tokens": 2 * r.config.train.eval_tokens}) for r in second]
    found = compare_tokenizers(first, half)
    assert found.read == (1.0, pytest.approx(0.5, abs=0.01))
    assert "100% and 50" in found.caveat
    assert found.caveat in tables(compare_sweeps(first, half, ("small", "large")))
    other = [replace(r, config=RunConfig(replace(r.config.model, d_model=36), r.config.train, "made")) for r in second]
    assert compare_sweeps(first, other, ("small", "large")).tokenizers is None

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


def bits(d_model: int, n_bytes: float) -> float:
    """A text's bits per byte, by width and bytes read alone: the vocabulary changes nothing."""
    return 10 * n_bytes**-0.1 * (64 / d_model) ** 0.2


def ladder(
    make_run: MakeRun,
    vocab: int,
    per_token: float,
    noise: float = 0.0,
    widths: tuple[int, ...] = (32, 64),
    seeds: int = 2,
) -> list[Run]:
    rng = np.random.default_rng(vocab)
    runs = []
    for d in widths:
        for seed in range(seeds):
            for steps in STEPS:
                value = bits(d, steps * 1024 * per_token) * math.exp(noise * rng.normal())
                run = make_run(
                    "wsd", d_model=d, steps=steps, seed=seed, loss=value * per_token * math.log(2),
                    bits_per_byte=value, vocab_size=vocab,
                )  # fmt: skip
                runs.append(run)
    return runs


def test_a_law_in_bytes_is_the_same_at_equal_text_alone(make_run: MakeRun) -> None:
    found = compare_tokenizers(ladder(make_run, 512, SMALL), ladder(make_run, 4096, LARGE))
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
    widths = (16, 32, 48, 64, 96)
    held = []
    for trial in range(40):
        first = ladder(make_run, 500 + trial, SMALL, 0.01, widths)
        second = ladder(make_run, 4000 + trial, LARGE, 0.01, widths)
        cells = [c for c in compare_tokenizers(first, second).cells if c.equal == "tokens"]
        held += [c.low <= (LARGE / SMALL) ** -0.1 - 1 <= c.high for c in cells]
        assert len({round(math.log1p(c.high) - math.log1p(c.low), 9) for c in cells}) == 1
    assert 0.8 <= np.mean(held) <= 0.98


def test_one_seed_has_no_interval_and_says_so(make_run: MakeRun) -> None:
    found = compare_tokenizers(ladder(make_run, 512, SMALL, seeds=1), ladder(make_run, 4096, LARGE, seeds=1))
    assert all(math.isnan(c.low) for c in found.cells)
    assert "one seed: none" in found.summary()
    plot_tokenizers(found)


def test_what_is_not_one_text_one_recipe_and_two_vocabularies_is_refused(make_run: MakeRun) -> None:
    first, second = ladder(make_run, 512, SMALL), ladder(make_run, 4096, LARGE)
    with pytest.raises(InputError, match="not the same"):
        compare_tokenizers(first, first)
    with pytest.raises(InputError, match="two"):
        compare_tokenizers(first, [replace(r, corpus={**r.corpus, "fingerprint": "e" * 64}) for r in second])
    with pytest.raises(InputError, match="--recipe"):
        compare_tokenizers([*first, make_run("v2", vocab_size=512)], second)
    with pytest.raises(InputError, match="no layer shape, window and seed"):
        compare_tokenizers(first, ladder(make_run, 4096, LARGE, widths=(128,)))
    short = [r for r in first if r.config.train.max_steps == 100]
    long = [r for r in second if r.config.train.max_steps == 800]
    with pytest.raises(InputError, match="train the other for longer"):
        compare_tokenizers(short, long)
    cells = compare_tokenizers(short, [r for r in second if r.config.train.max_steps == 100]).cells
    assert {c.equal for c in cells} == {"tokens"}, "more text and FLOPs than the smaller vocabulary has: no answer"
    found = compare_tokenizers(short, [r for r in second if r.config.train.max_steps == 100])
    assert len(plot_tokenizers(found).containers) == 1
    assert found.largest == "2x64"
    with pytest.raises(InputError, match="no bits per byte"):
        bytes_per_token(make_run("v2", bits_per_byte=None))


def test_losses_of_a_part_of_the_text_are_named(make_run: MakeRun) -> None:
    first, second = ladder(make_run, 512, SMALL), ladder(make_run, 4096, LARGE)
    assert compare_tokenizers(first, second).caveat == ""
    half = [replace(r, corpus={**r.corpus, "n_val_tokens": 2 * r.config.train.eval_tokens}) for r in second]
    found = compare_tokenizers(first, half)
    assert found.read == (1.0, pytest.approx(0.5, abs=0.01))
    assert found.caveat in found.summary()
    assert "100% and 50" in found.caveat
    assert found.caveat in tables(compare_sweeps(first, half, ("small", "large")))


def test_compare_prints_it_for_two_folders(make_run: MakeRun) -> None:
    first, second = ladder(make_run, 512, SMALL), ladder(make_run, 4096, LARGE)
    versus = compare_sweeps(first, second, ("small", "large"))
    said = tables(versus)
    assert "Losses are not compared: the vocabularies differ" in said
    assert "-5.4%" in said
    assert len(to_dict(versus)["tokenizers"]["cells"]) == 6
    axes = plot_versus(versus).axes
    assert any("bits per byte, 4,096 against 512" in a.get_ylabel() for a in axes)
    other = [replace(r, config=RunConfig(replace(r.config.model, d_model=36), r.config.train, "made")) for r in second]
    assert compare_sweeps(first, other, ("small", "large")).tokenizers is None

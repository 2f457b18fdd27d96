"""Batches: positions serve as tokens, so that what a batch holds shows where it was taken from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_lib.errors import InputError
from scaling_lib.lm import batches
from scaling_lib.lm.corpus import Corpus, load_corpus


def made_corpus(lengths: list[int], n_train: int = 100) -> Corpus:
    """A corpus whose validation tokens are their positions, in documents of these lengths."""
    ends = np.cumsum([0, *lengths])
    val = np.arange(ends[-1], dtype=np.uint16)
    return Corpus("made", "0" * 64, 300, np.arange(n_train, dtype=np.uint16), val, ends, 1.0, None, len(lengths), 0)


SHAPES = {
    "n_tokens": st.integers(2, 3000),
    "seq_len": st.integers(1, 40),
    "batch_size": st.integers(1, 20),
    "seed": st.integers(0, 2**40),
}


@settings(max_examples=100, deadline=None)
@given(**SHAPES)
def test_an_epoch_shows_no_target_twice(n_tokens, seq_len, batch_size, seed):
    tokens = np.arange(n_tokens)
    if n_tokens < seq_len + 1:
        with pytest.raises(InputError, match=r"\A[^\n]+\Z"):
            batches.batch(tokens, seed, 0, batch_size, seq_len)
        return
    n_windows = batches.windows_per_epoch(n_tokens, seq_len)
    for epoch in range(3):
        steps = range(epoch * n_windows // batch_size, -(-(epoch + 1) * n_windows // batch_size))
        x, y = (
            np.concatenate(part)
            for part in zip(*(batches.batch(tokens, seed, s, batch_size, seq_len) for s in steps), strict=True)
        )
        skipped = epoch * n_windows - steps[0] * batch_size  # windows of the epoch before in its first batch
        x, y = x[skipped : skipped + n_windows], y[skipped : skipped + n_windows]
        assert x.shape == y.shape == (n_windows, seq_len)
        np.testing.assert_array_equal(y, x + 1)  # the next token
        np.testing.assert_array_equal(np.diff(x), 1)  # consecutive ones
        assert len(np.unique(y)) == y.size
        assert n_tokens - 1 - y.size < 2 * seq_len  # and an epoch leaves out less than two windows


@settings(max_examples=30, deadline=None)
@given(**SHAPES, step=st.integers(0, 10**6))
def test_a_batch_is_a_function_of_seed_and_step(n_tokens, seq_len, batch_size, seed, step):
    tokens = np.arange(n_tokens + seq_len)
    first = batches.batch(tokens, seed, step, batch_size, seq_len)
    for other in (step + 1, 0, step + 10**5):  # whatever was asked for in between, and kept
        batches.batch(tokens, seed, other, batch_size, seq_len)
    again = batches.batch(tokens, seed, step, batch_size, seq_len)
    batches._epoch.cache_clear()
    anew = batches.batch(tokens, seed, step, batch_size, seq_len)
    for x, y, z in zip(first, again, anew, strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, z)
        assert x.dtype == np.int64
        assert x.flags.c_contiguous


def test_steps_seeds_and_epochs_differ():
    tokens = np.arange(20_000)
    x = batches.batch(tokens, 0, 0, 16, 32)[0]
    assert not np.array_equal(x, batches.batch(tokens, 0, 1, 16, 32)[0])
    assert not np.array_equal(x, batches.batch(tokens, 1, 0, 16, 32)[0])
    n_windows = batches.windows_per_epoch(20_000, 32)
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 0.6  # in a random order, not as neighbours
    phases = {int(batches.batch(tokens, 0, epoch, n_windows, 32)[0][0, 0]) % 32 for epoch in range(12)}
    assert len(phases) > 4  # of 12 epochs


def test_tokens_of_a_memory_map_are_read_as_they_are(tmp_path):
    path = f"{tmp_path}/tokens"
    np.arange(60_000, 65_535, dtype=np.uint16).tofile(path)
    tokens = np.memmap(path, np.uint16, mode="r")
    x, y = batches.batch(tokens, 0, 0, 4, 16)
    assert type(x) is np.ndarray
    assert x.min() >= 60_000  # no overflow into negative numbers
    np.testing.assert_array_equal(y, x + 1)


def test_epochs_seen_counts_what_batches_do():
    n_tokens, seq_len = 1001, 10
    n_windows = batches.windows_per_epoch(n_tokens, seq_len)
    assert batches.epochs_seen(n_tokens, n_windows * seq_len, seq_len) == 1.0
    assert batches.epochs_seen(n_tokens, 5 * n_windows * seq_len // 2, seq_len) == pytest.approx(2.5, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 50))
def test_validation_windows_against_a_plain_loop(lengths, seq_len):
    corpus = made_corpus(lengths)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    starts = range(0, len(owner) - seq_len, seq_len)
    if not starts:
        with pytest.raises(InputError, match=r"\A[^\n]+\Z"):
            batches.val_windows(corpus, seq_len)
        return
    x, y, document = batches.val_windows(corpus, seq_len)
    np.testing.assert_array_equal(x, [corpus.val[s : s + seq_len] for s in starts])
    np.testing.assert_array_equal(y, [corpus.val[s + 1 : s + 1 + seq_len] for s in starts])
    np.testing.assert_array_equal(document, [owner[s + 1 : s + 1 + seq_len] for s in starts])
    assert (x.dtype, y.dtype, document.dtype) == (np.int64, np.int64, np.int32)


def test_fewer_validation_tokens_are_spread_over_all_of_them():
    corpus = made_corpus([100] * 100)
    for max_tokens, n_windows in [(1, 1), (10, 1), (200, 20), (5555, 555), (9990, 999), (10**9, 999)]:
        x, _, _ = batches.val_windows(corpus, 10, max_tokens)
        begin = x[:, 0]
        assert len(begin) == len(np.unique(begin)) == n_windows
        assert (begin % 10 == 0).all()
        assert begin.mean() == pytest.approx(5000, abs=30)  # centred on the middle
        if n_windows > 1:
            assert np.ptp(np.diff(begin)) <= 10  # at equal distances, but for whole windows
    document = batches.val_windows(corpus, 10, 2000)[2]
    assert len(np.unique(document)) == 100  # each of the 100 documents is heard


def test_room_for_one_batch():
    batches.check_room(made_corpus([129], 129), 4, 32)
    with pytest.raises(InputError, match=r"\A[^\n]*validation[^\n]*too small for one batch of 4 x 32[^\n]*\Z"):
        batches.check_room(made_corpus([128], 129), 4, 32)
    with pytest.raises(InputError, match=r"\A[^\n]*training[^\n]*\Z"):
        batches.check_room(made_corpus([129], 128), 4, 32)


def test_windows_of_a_hierarchy_hold_whole_strings():
    tokens = np.arange(10_000, dtype=np.int64)
    begins = np.concatenate([batches.batch(tokens, 1, s, 16, 32, 8)[0][:, 0] for s in range(60)])
    assert not (begins % 8).any()
    assert len(set((begins % 32).tolist())) > 1  # and epochs still differ in their phase
    corpus = load_corpus("hierarchy:depth=3,train_tokens=40000,val_tokens=8000", 300)
    assert corpus.unit == 8
    batches.check_room(corpus, 4, 64)
    with pytest.raises(InputError, match="strings of 8 tokens do not fill a window of seq_len 60"):
        batches.check_room(corpus, 4, 60)

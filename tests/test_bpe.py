"""The tokenizer: any text comes back as it was, and threads change nothing but the time."""

import itertools
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_lib.lm import bpe

TEXTS = [f"The {word} of number {i}, and {word}s again.\n" * 3 for i, word in enumerate(["cat", "dog", "Größe"] * 30)]
TOKENIZER = bpe.train_tokenizer(TEXTS, 300)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text
    assert 0 not in ids


def test_a_text_cannot_spell_the_marker(tmp_path):
    text = f"before {bpe.END_OF_DOCUMENT} after"
    lengths = bpe.write_tokens(TOKENIZER, [text, "x"], tmp_path / "t", lambda n: None)
    tokens = np.fromfile(tmp_path / "t", np.uint16)
    assert np.flatnonzero(tokens == 0).tolist() == [0, lengths[0]]
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    again = bpe.open_tokenizer(tmp_path / "tokenizer.json")
    assert again.decode(tokens[1 : lengths[0]].tolist(), skip_special_tokens=False) == text
    assert again.encode(text).ids == tokens[1 : lengths[0]].tolist()


def test_the_first_merge_is_of_the_commonest_pair():
    pairs = Counter(pair for text in TEXTS for word in text.encode().split() for pair in itertools.pairwise(word))
    tokenizer = bpe.train_tokenizer(TEXTS, 258)
    assert tokenizer.get_vocab_size() == 258
    learnt = tokenizer.decode([257])
    # Words come with the space before them, which split() drops: pairs like " a" count too.
    spaced = Counter(f" {word}"[:2] for text in TEXTS for word in text.split())
    most = max(max(pairs.values()), max(spaced.values()))
    assert most in (pairs.get(tuple(learnt.encode())), spaced.get(learnt))


def test_a_text_with_few_pairs_gives_fewer_tokens_than_asked_for():
    assert bpe.train_tokenizer(["ab ab", "cd"], 5000).get_vocab_size() < 265


def test_tokens_are_written_after_their_marker_and_progress_is_in_bytes(tmp_path):
    done: list[int] = []
    lengths = bpe.write_tokens(TOKENIZER, iter(TEXTS), tmp_path / "t", done.append)
    tokens = np.fromfile(tmp_path / "t", np.uint16)
    assert sum(done) == sum(len(text.encode()) for text in TEXTS)
    assert lengths.sum() == len(tokens)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    for text, begin, end in zip(TEXTS, begins[:-1], begins[1:], strict=True):
        assert tokens[begin] == 0
        assert TOKENIZER.decode(tokens[begin + 1 : end].tolist()) == text


def test_long_and_many_texts_are_encoded_in_parts(tmp_path, monkeypatch):
    whole = bpe.write_tokens(TOKENIZER, TEXTS, tmp_path / "whole", lambda n: None)
    monkeypatch.setattr(bpe, "_BATCH", 100)
    parts = bpe.write_tokens(TOKENIZER, TEXTS, tmp_path / "parts", lambda n: None)
    np.testing.assert_array_equal(whole, parts)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


FORKS = """
import multiprocessing, os, sys
from scaling_lib.lm import bpe
texts = [f"The {word} of number {i}, and {word}s again. " * 3 for i, word in enumerate(["cat", "dog", "house"] * 30)]
def learn(queue):
    queue.put(bpe.train_tokenizer(texts, 400).to_str())
whole = bpe.train_tokenizer(texts, 400).to_str()  # with threads, unless the environment says otherwise
context = multiprocessing.get_context("fork")
queue = context.Queue()
context.Process(target=learn, args=(queue,), daemon=True).start()
print(queue.get(timeout=60) == whole, hash(whole), os.environ["TOKENIZERS_PARALLELISM"])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork, so there is nothing to go wrong")
def test_threads_change_nothing_and_a_fork_neither_hangs_nor_warns():
    """In processes of their own, with threads and, as a user may wish, without."""
    plain = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"} | {"PYTHONHASHSEED": "0"}
    said = []
    for wish in ({}, {"TOKENIZERS_PARALLELISM": "false"}):
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS]
        done = subprocess.run(command, capture_output=True, text=True, env=plain | wish, timeout=100)
        assert (done.returncode, done.stderr) == (0, "")
        said.append(done.stdout.split())
    assert [words[0] for words in said] == ["True", "True"]
    assert said[0][1] == said[1][1]
    assert [words[2] for words in said] == ["true", "false"]

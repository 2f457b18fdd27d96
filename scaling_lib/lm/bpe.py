"""Byte-level BPE by the `tokenizers` library: learnt from a text, it writes any text without loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_DOCUMENT = "<|endofdocument|>"  # token 0; it starts every document, and so also ends the one before
_BATCH = 2**20  # characters encoded at a time: the library's results take some 50 times their text in memory
_THREADS = "TOKENIZERS_PARALLELISM"


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary: token 0 marks a document, 256 tokens are the bytes, the rest are learnt merges.

    Words are split as GPT-2 does, without the added space. A text that offers too few pairs to merge (a pair
    must occur twice) gives a smaller vocabulary than asked for, which is 257 or more.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END_OF_DOCUMENT],
        show_progress=False,
    )
    _use_threads()
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.encode_special_tokens = True  # a text that spells the marker out is encoded as the characters it is
    return tokenizer


def open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that was saved with ``tokenizer.save``."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """Bytes of UTF-8 that each token stands for, int64 (n,): one for each of its characters; none for the marker."""
    return np.array([0, *(len(tokenizer.id_to_token(i) or "") for i in range(1, tokenizer.get_vocab_size()))])


def write_tokens(
    tokenizer: Tokenizer, documents: Iterable[str], path: Path, progress: Callable[[int], object]
) -> np.ndarray:
    """Write documents as 16-bit tokens, each after its marker. Returns the tokens of each, int64 (n_documents,).

    ``progress`` is called with the number of bytes of UTF-8 done since the last call.
    """
    _use_threads()
    lengths = []
    with path.open("wb") as out:
        for texts in _batches(documents):
            # Without offsets into the text, which we do not need, the library is about a third faster.
            for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                tokens = np.array([0, *encoding.ids], np.uint16)
                tokens.tofile(out)
                lengths.append(len(tokens))
            progress(sum(len(text.encode()) for text in texts))
    return np.array(lengths, np.int64)


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    texts: list[str] = []
    size = 0
    for text in documents:
        texts.append(text)
        size += len(text)
        if size >= _BATCH:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def _use_threads() -> None:
    """Let the library use all cores, unless the user has set TOKENIZERS_PARALLELISM, and a fork of us only one.

    A fork does not copy threads, and a child that waits for its parent's would wait for ever.
    """
    if _THREADS not in os.environ:
        os.environ[_THREADS] = "true"
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: os.environ.update({_THREADS: "false"}))

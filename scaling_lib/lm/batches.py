"""Which tokens a training step sees: a pure function of (seed, step), without repeats inside an epoch."""

from functools import lru_cache

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.lm.corpus import Corpus


def batch(
    tokens: np.ndarray, seed: int, step: int, batch_size: int, seq_len: int, unit: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and targets of one training step.

    An epoch cuts the tokens into windows of `seq_len` at a fresh phase and visits them in a fresh order, so
    within an epoch no target is seen twice, and a second epoch does not repeat the first one's windows. A
    batch that reaches the end of an epoch takes the rest of its windows from the next.

    Parameters
    ----------
    tokens : integers (n_tokens,)
        A memory map or an array of at least ``seq_len + 1``.
    seed, step : int
        Non-negative; they and the shapes decide the batch, whatever was asked for before.
    batch_size, seq_len : int
        Windows of the batch, and tokens of a window.
    unit : int
        Windows begin at multiples of it; it divides ``seq_len``.

    Returns
    -------
    x, y : int64 (batch_size, seq_len)
        Inputs and targets; y is x one token later.

    Raises
    ------
    InputError
        Fewer than ``seq_len + 1`` tokens.
    """
    n_windows = windows_per_epoch(len(tokens), seq_len)
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n_windows)
    begin = np.empty(batch_size, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        phase, order = _epoch(seed, epoch, n_windows, len(tokens), seq_len, unit)
        here = epochs == epoch
        begin[here] = phase + seq_len * order[places[here]].astype(np.int64)
    both = np.asarray(tokens)[begin[:, None] + np.arange(seq_len + 1)].astype(np.int64)
    return both[:, :-1].copy(), both[:, 1:].copy()


def windows_per_epoch(n_tokens: int, seq_len: int) -> int:
    """Windows in an epoch: the same number whichever phase it draws, hence one less than would fit."""
    if n_tokens < seq_len + 1:
        raise InputError(
            f"the training text has {n_tokens} tokens, fewer than one window of seq_len + 1 = {seq_len + 1}; "
            "use more text or a smaller seq_len"
        )
    return max(1, n_tokens // seq_len - 1)


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, n_windows: int, n_tokens: int, seq_len: int, unit: int) -> tuple[int, np.ndarray]:
    """Phase of the first window and order of the windows, int32 (n_windows,); computed once per epoch."""
    rng = np.random.default_rng([seed, epoch, 4])
    phase = int(rng.integers(0, min(seq_len, n_tokens - n_windows * seq_len))) // unit * unit
    order = rng.permutation(n_windows).astype(np.int32)
    order.flags.writeable = False
    return phase, order


def epochs_seen(n_train_tokens: int, n_tokens: int, seq_len: int) -> float:
    """How often a run of `n_tokens` tokens goes through a text of `n_train_tokens`; below 1, a part of it."""
    return n_tokens / (windows_per_epoch(n_train_tokens, seq_len) * seq_len)


def val_windows(
    corpus: Corpus, seq_len: int, max_tokens: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The validation set as non-overlapping windows, in order.

    Parameters
    ----------
    corpus : Corpus
        Its ``val`` and ``val_document`` are used.
    seq_len : int
        Tokens of a window.
    max_tokens : int, optional
        Keep about this many tokens (at least one window). The windows kept are spread evenly over the whole set,
        because neighbouring ones come from the same document and are alike.

    Returns
    -------
    x, y : int64 (n_windows, seq_len)
        y is x one token later.
    document : int32 (n_windows, seq_len)
        The validation document that each y belongs to: the clusters of the loss's standard error.

    Raises
    ------
    InputError
        The validation set is shorter than one window.
    """
    n_windows = (len(corpus.val) - 1) // seq_len
    if n_windows < 1:
        raise InputError(
            f"the validation text of {corpus.name} has {len(corpus.val)} tokens, fewer than one window of "
            f"seq_len + 1 = {seq_len + 1}; use more text or a smaller seq_len"
        )
    kept = np.arange(n_windows)
    if max_tokens is not None and max_tokens < n_windows * seq_len:
        n_kept = max(1, max_tokens // seq_len)
        kept = (2 * np.arange(n_kept) + 1) * n_windows // (2 * n_kept)  # the middles of n_kept equal parts
    place = kept[:, None] * seq_len + np.arange(1, seq_len + 1)  # of y
    val = np.asarray(corpus.val)
    document = np.searchsorted(corpus.val_document, place, side="right") - 1
    return val[place - 1].astype(np.int64), val[place].astype(np.int64), document.astype(np.int32)


def check_room(corpus: Corpus, batch_size: int, seq_len: int) -> None:
    """Raise `InputError` unless a batch of each part fits into the corpus, and whole strings into a window."""
    if seq_len % corpus.unit:
        raise InputError(
            f"{corpus.name}: its strings of {corpus.unit} tokens do not fill a window of seq_len {seq_len}; "
            "choose a mode or options in which one divides the other"
        )
    needed = batch_size * seq_len + 1
    for part, tokens in (("validation", corpus.val), ("training", corpus.train)):
        if len(tokens) < needed:
            raise InputError(
                f"{corpus.name}: the {part} text has {len(tokens)} tokens, too small for one batch of "
                f"{batch_size} x {seq_len}; use more text, or a smaller batch_size or seq_len"
            )

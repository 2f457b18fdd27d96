"""The learning rate at a step: three closed forms, as a pure function."""

import math

from scaling_lib.config import TrainConfig


def learning_rate(step: int, train: TrainConfig) -> float:
    """Learning rate of update ``step``, which counts from 0 to ``max_steps - 1``.

    Warm-up is linear over ``warmup_steps`` W: the first update uses ``lr / W``, update W - 1 the full ``lr``
    (an update at rate 0 would be a step wasted). Then, with ``progress = (step - W) / (max_steps - W)``:

    * ``constant``: ``lr``
    * ``cosine``: ``lr * 0.5 (1 + cos(pi progress))`` (Loshchilov & Hutter 2017), reaching 0 where step
      ``max_steps`` would be; it is right only for a run that ends there (Hoffmann et al. 2022, figure A1)
    * ``wsd``: ``lr`` until ``decay_start``, then linear to 0 (Hu et al. 2024; Hägele et al. 2024)
    """
    if step < train.warmup_steps:
        return train.lr * (step + 1) / train.warmup_steps
    if train.schedule == "constant":
        return train.lr
    if train.schedule == "cosine":
        progress = (step - train.warmup_steps) / (train.max_steps - train.warmup_steps)
        return train.lr * 0.5 * (1.0 + math.cos(math.pi * progress))
    if step < train.decay_start:
        return train.lr
    return train.lr * (train.max_steps - step) / train.decay_steps

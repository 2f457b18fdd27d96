"""The validation loss of a model, with a standard error clustered by document."""

import numpy as np
import torch

from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime

EVAL_BATCH_TOKENS = 4096


@torch.no_grad()
def token_losses(model: GPT, x: np.ndarray, y: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Loss of every predicted token in nats. ``x``, ``y``: integers (W, T). Returns float64 (W, T)."""
    rows = max(1, EVAL_BATCH_TOKENS // x.shape[1])
    parts = []
    model.eval()
    for start in range(0, len(x), rows):
        tokens = torch.from_numpy(x[start : start + rows].astype(np.int64)).to(runtime.device)
        targets = torch.from_numpy(y[start : start + rows].astype(np.int64)).to(runtime.device)
        with runtime.autocast():
            parts.append(model.loss(tokens, targets, reduction="none").float().cpu().numpy())
    model.train()
    return np.concatenate(parts).astype(np.float64)


def clustered_mean(losses: np.ndarray, document: np.ndarray) -> tuple[float, float]:
    """Mean loss per token and its standard error, clustered by document.

    Tokens of one document are alike, so n tokens are worth far fewer than n. The mean is a ratio of sums over
    G documents; by linearisation (Cochran 1977, section 6.3) with document sums s_g and counts n_g::

        var = G / (G - 1) * sum_g (s_g - mean * n_g)^2 / (sum_g n_g)^2

    Parameters
    ----------
    losses : float (...,)
        Nats per token.
    document : int (...,)
        Which document each token belongs to.

    Returns
    -------
    mean, error : float
        The standard error is NaN where all tokens are of one document.
    """
    _, which = np.unique(document.ravel(), return_inverse=True)
    sums = np.bincount(which, weights=losses.ravel())
    counts = np.bincount(which).astype(float)
    mean = sums.sum() / counts.sum()
    groups = len(sums)
    if groups < 2:
        return float(mean), float("nan")
    variance = groups / (groups - 1) * np.sum((sums - mean * counts) ** 2) / counts.sum() ** 2
    return float(mean), float(np.sqrt(variance))

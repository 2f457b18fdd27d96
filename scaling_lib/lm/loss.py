"""Cross-entropy over a vocabulary in chunks of tokens, so that the logits never stand in memory whole."""

from typing import Any

import torch
from torch import Tensor

# Logits held at once: 32 MB in float32 nearly stay in a processor's cache; a GPU wants larger products.
CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**27}


def rows_per_chunk(vocab_size: int, device: str) -> int:
    """How many tokens have their logits computed at once: a power of two, at least 16."""
    return max(16, 2 ** ((CHUNK_LOGITS.get(device, 2**24) // vocab_size).bit_length() - 1))


def mean_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean loss per token in nats, as ``F.cross_entropy(hidden @ weight.T, targets)``, in less memory.

    The gradients are computed in the forward pass, while a chunk's logits are at hand: none are kept, and none
    are computed twice. Under autocast the products are in bf16, the soft-max always in float32.

    Parameters
    ----------
    hidden : float (n, d)
        Final states.
    weight : float (V, d)
        The output head.
    targets : int64 (n,)
        The token that follows each state.
    """
    if not torch.is_grad_enabled():
        return token_cross_entropy(hidden, weight, targets).mean()
    loss: Tensor = _MeanCrossEntropy.apply(hidden, weight, targets)
    return loss


def token_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Loss of every token in nats, float32 (n,), without gradients; arguments as in ``mean_cross_entropy``."""
    rows = rows_per_chunk(len(weight), hidden.device.type)
    chunks = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([-_log_probabilities(h, weight).gather(-1, t[:, None]).squeeze(-1) for h, t in chunks])


def _log_probabilities(hidden: Tensor, weight: Tensor) -> Tensor:
    # float32 in the soft-max: bf16 has 8 bits of precision, too few for a sum over the vocabulary.
    return torch.log_softmax(hidden @ weight.T, -1, dtype=torch.float32)


class _MeanCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        device = hidden.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        h_all, w = hidden.to(kind), weight.to(kind)
        n, rows = len(targets), rows_per_chunk(len(weight), device)
        total = torch.zeros((), device=hidden.device)
        grad_weight = torch.zeros_like(weight)
        minus_one = torch.full((rows, 1), -1.0, device=hidden.device)
        vocabulary = torch.arange(len(weight), device=hidden.device)
        grad_hidden = []
        for h, t in zip(h_all.split(rows), targets.split(rows), strict=True):
            slope = _log_probabilities(h, w)
            total = total - slope.gather(-1, t[:, None]).sum()
            # d loss / d logits: the soft-max less the one-hot target. The mean's 1 / n comes at the end, on less.
            if torch.compiler.is_compiling():  # one pass over the chunk, where eager would take three
                slope = slope.exp() - (vocabulary == t[:, None]).float()
            else:
                slope.exp_().scatter_add_(-1, t[:, None], minus_one[: len(t)])
            slope = slope.to(kind)
            grad_hidden.append(slope @ w)
            grad_weight += slope.T @ h
        ctx.save_for_backward(torch.cat(grad_hidden).to(hidden.dtype).div_(n), grad_weight.div_(n))
        return total / n

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad, grad_weight * grad, None

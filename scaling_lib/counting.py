"""Parameters, FLOPs and tokens of a GPT, in every convention the literature uses.

The model counted here is the one in ``scaling_lib.lm.model``: tied input and output embeddings, rotary or learned
positions, pre-norm blocks of attention and a 4x GELU feed-forward, no biases. For ``n_layer`` L,
``d_model`` d, ``vocab_size`` V and ``seq_len`` T, with a token shift (without: (2 L + 1) d in place of (2 L + 2) d):

==========================  =============================================  ==================================
name                        formula                                        who counts so
==========================  =============================================  ==================================
``n_params``                12 L d^2 + (2 L + 2) d + V d                   Chinchilla ("total")
``n_params_non_embedding``  12 L d^2 + (2 L + 2) d                         Kaplan et al. 2020
``n_params_with_head``      12 L d^2 + (2 L + 2) d + V d                   Porian et al. 2024, by head FLOPs
==========================  =============================================  ==================================

Learned positions add T d to the first. Rotary ones have no parameters, so that the first and the last agree.
The choice alone moves a fitted exponent (Pearce & Song 2024: 0.78 against 0.51), so every record carries all.
"""

from dataclasses import dataclass

from scaling_lib.config import ModelConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters by group; the groups sum to ``total``."""

    token_embedding: int
    position_embedding: int
    attention: int
    feed_forward: int
    norm: int
    token_shift: int = 0

    @property
    def total(self) -> int:
        """All trainable parameters; the tied output head is counted once, as the token embedding."""
        return self.non_embedding + self.token_embedding + self.position_embedding

    @property
    def non_embedding(self) -> int:
        """Without token and position embeddings (Kaplan et al. 2020, section 2.1)."""
        return self.attention + self.feed_forward + self.norm + self.token_shift

    @property
    def with_head(self) -> int:
        """Non-embedding plus the output head, whose product costs FLOPs (Porian et al. 2024)."""
        return self.non_embedding + self.token_embedding


def count_parameters(shape: ModelConfig) -> ParameterCounts:
    """Count the parameters of a model from its shape, without building it."""
    d, layers = shape.d_model, shape.n_layer
    return ParameterCounts(
        token_embedding=shape.vocab_size * d,
        position_embedding=shape.seq_len * d if shape.positions == "learned" else 0,  # rotation has no parameters
        attention=layers * 4 * d * d,  # query, key, value and output projections
        feed_forward=layers * 8 * d * d,  # d -> 4 d -> d
        norm=(2 * layers + 1) * d,  # two per block and the last one; a gain, no bias
        token_shift=d if shape.token_shift else 0,  # a gain per channel
    )


def forward_flops_per_token(shape: ModelConfig) -> int:
    """FLOPs of one forward pass per token: matrix products only, a multiply-add as 2.

    ``2 (12 L d^2) + 2 V d + 4 L T d``: blocks, output head, and the two products of attention over all T
    positions. Attention is counted whole although the causal mask hides half of it, as
    ``torch.utils.flop_counter`` and the PaLM paper (Chowdhery et al. 2022, appendix B) count it.
    """
    d, layers = shape.d_model, shape.n_layer
    return 24 * layers * d * d + 2 * shape.vocab_size * d + 4 * layers * shape.seq_len * d


def training_flops(shape: ModelConfig, n_tokens: int) -> int:
    """FLOPs of training on ``n_tokens``: forward plus backward, which costs twice the forward pass.

    The usual ``6 N D`` (``flops_6nd``) is this without attention and, with non-embedding N, without the head.
    For small models the difference is not small: at 2 layers of width 32 and vocabulary 512 it is 40%.
    """
    return 3 * forward_flops_per_token(shape) * n_tokens


def flops_6nd(n_params: float, n_tokens: float) -> float:
    """Kaplan's and Chinchilla's estimate of training FLOPs, C = 6 N D, for whichever N is given."""
    return 6.0 * n_params * n_tokens


def training_bytes(shape: ModelConfig, batch_size: int, bytes_per_activation: int = 4) -> int:
    """A rough upper estimate of the memory of one training process above its imports, in bytes.

    Weights, gradients and the two moments of AdamW in float32 (16 bytes a parameter), the activations that
    the backward pass needs (about 34 d + 2 T n_head ~ 40 d numbers per layer and token), and the logits of a
    chunk with their gradient in float32 (8 million at a time, see ``lm.loss``). Fused attention stores no
    T x T matrix.
    """
    tokens = batch_size * shape.seq_len
    activations = 40 * shape.n_layer * shape.d_model * tokens * bytes_per_activation
    logits = 3 * min(shape.vocab_size * tokens, 2**23) * 4
    return 16 * count_parameters(shape).total + activations + logits

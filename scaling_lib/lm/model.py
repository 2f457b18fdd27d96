"""A small GPT: pre-norm decoder with rotary positions, a token shift, tied embeddings and no biases.

The architecture of GPT-2 (Radford et al. 2019) without its biases, so that the counts in ``scaling_lib.counting``
are short formulas, and with rotary positions (Su et al. 2021) unless the configuration asks for GPT-2's learned
ones. The token shift is a simple form of that of RWKV (Peng et al. 2023): it lets one layer of attention find what
followed a token the last time. One file, to be read from top to bottom.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling_lib.config import ModelConfig
from scaling_lib.counting import count_parameters
from scaling_lib.lm.loss import mean_cross_entropy, token_cross_entropy

# Initial scales. Embeddings at 0.1 rather than GPT-2's 0.02: AdamW moves every entry by about the learning
# rate a step, and at the rates small models like (near 0.01) that drowns entries of 0.02. With 0.1 the small
# models of the demo learn sooner, and their loss over learning rates is smooth enough to find the best.
EMBEDDING_STD = 0.1
# Period of the slowest plane of a rotation is 2 pi times this: windows here have 64 to 512 tokens.
ROTARY_BASE = 1000.0
TOKEN_SHIFT_START = 0.0
WRITTEN_OUT_UP_TO = 256  # tokens of a window: beyond, the T x T matrices of all heads take too much memory
MATRIX_GAIN = 0.5  # matrices at 0.5 / sqrt(d_model): GPT-2's 0.02 at its own widths


def rotation_tables(seq_len: int, head_size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Cosines and signed sines of every position and channel, (2, T, d/h).

    Channels i and i + d/2h form a plane that turns by ``position * ROTARY_BASE ** (-2 i h / d)`` (Su et al. 2021).
    """
    half = head_size // 2
    speed = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(seq_len, dtype=torch.float64)[:, None] * speed  # (T, d/2h)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)]).to(dtype)


def rotate(x: Tensor, tables: Tensor) -> Tensor:
    """Turn queries or keys (..., T, d/h) by their positions, so that products see distances only."""
    cos, sin = tables[:, : x.shape[-2]].to(x.dtype)
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention: softmax(q k' / sqrt(d/h)) v over the past. All (B, h, T, d/h)."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # On a processor the fused kernel's backward pass takes four times as long in bf16 as in float32.
        if torch.compiler.is_compiling() and q.shape[-2] <= WRITTEN_OUT_UP_TO:
            return _attend_written_out(q, k, v)
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _attend_written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in single steps, which the compiler fuses; products in q's dtype, the soft-max in float32."""
    scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(q.shape[-1])  # (B, h, T, T)
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.query_key_value = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.output = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor, tables: Tensor | None) -> Tensor:
        batch, seq, d = x.shape  # (B, T, d)
        heads = self.query_key_value(x).view(batch, seq, 3, self.n_head, d // self.n_head)
        heads = heads.permute(2, 0, 3, 1, 4)  # (3, B, h, T, d/h)
        q, k = heads[:2] if tables is None else rotate(heads[:2], tables)
        v = heads[2]
        y = attend(q, k, v)  # (B, h, T, d/h)
        return cast(Tensor, self.output(y.transpose(1, 2).reshape(batch, seq, d)))


class FeedForward(nn.Module):
    """d -> 4 d, GELU, 4 d -> d."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.d_model, 4 * config.d_model, bias=False)
        self.contract = nn.Linear(4 * config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.contract(F.gelu(self.expand(x))))


class Block(nn.Module):
    """Attention, then feed-forward, each on a normalised input and added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.d_model, bias=False)
        self.attention = Attention(config)
        self.norm_feed_forward = nn.LayerNorm(config.d_model, bias=False)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, tables: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm_attention(x), tables)
        return cast(Tensor, x + self.feed_forward(self.norm_feed_forward(x)))


class GPT(nn.Module):
    """The language model. Build it under a fixed seed: ``GPT(config, seed=0)``."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        tables = None
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.seq_len, config.d_model)
        else:
            tables = rotation_tables(config.seq_len, config.d_model // config.n_head)
        self.register_buffer("rotation", tables, persistent=False)
        if config.token_shift:
            self.token_shift = nn.Parameter(torch.full((config.d_model,), TOKEN_SHIFT_START))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self._initialise(seed)
        expected = count_parameters(config).total
        actual = sum(p.numel() for p in self.parameters())
        assert actual == expected, f"counting.py says {expected} parameters, the model has {actual}"

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if p.dim() < 2:
                continue  # gains start at 1, the token shift at 0
            # Each block adds twice to the residual stream: keep its variance from growing with depth (GPT-2).
            residual = name.endswith(("output.weight", "contract.weight"))
            std = EMBEDDING_STD if "embedding" in name else MATRIX_GAIN / math.sqrt(self.config.d_model)
            if residual:
                std /= math.sqrt(2 * self.config.n_layer)
            with torch.no_grad():
                p.normal_(0.0, std, generator=generator)
        # The last gain starts low: small logits make a fresh model's loss ln(vocab_size), knowing nothing.
        with torch.no_grad():
            self.norm.weight.fill_(1 / math.sqrt(self.config.d_model))

    def hidden(self, tokens: Tensor) -> Tensor:
        """Final normalised states. ``tokens``: int64 (B, T), T at most ``seq_len``. Returns (B, T, d)."""
        x = self.token_embedding(tokens)  # (B, T, d)
        if self.config.token_shift:
            x = x + self.token_shift * F.pad(x, (0, 0, 1, -1))  # the first token has none before it
        if self.config.positions == "learned":
            x = x + self.position_embedding.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, self.rotation)
        return cast(Tensor, self.norm(x))

    def forward(self, tokens: Tensor) -> Tensor:
        """Next-token logits, (B, T, V). The output head is the token embedding, transposed."""
        return F.linear(self.hidden(tokens), self.token_embedding.weight)

    def loss(self, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats: the mean per token, or with ``reduction="none"`` one per token, (B, T)."""
        hidden = self.hidden(tokens).flatten(0, 1)  # (B T, d)
        weight = self.token_embedding.weight
        if reduction == "mean":
            return mean_cross_entropy(hidden, weight, targets.flatten())
        return token_cross_entropy(hidden, weight, targets.flatten()).view_as(targets)


@torch.no_grad()
def generate(model: GPT, tokens: Tensor, n_new: int, *, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """Continue a text, one sampled token after another.

    Parameters
    ----------
    model
        It sees the last ``seq_len`` tokens of what there is.
    tokens
        int64 (T,), T at least 1: the beginning.
    n_new
        How many tokens to add.
    temperature
        Logits are divided by it: below 1 the likely tokens become likelier; 0 takes the likeliest.
    seed
        Of the sampling.

    Returns
    -------
    int64 (T + n_new,).
    """
    generator = torch.Generator(tokens.device).manual_seed(seed)
    for _ in range(n_new):
        logits = model(tokens[None, -model.config.seq_len :])[0, -1].float()  # (V,)
        if temperature == 0:
            following = logits.argmax()[None]
        else:
            following = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        tokens = torch.cat([tokens, following])
    return tokens

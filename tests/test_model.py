"""The model against a plain NumPy reference in float64, its causality, and where it starts."""

import math

import numpy as np
import pytest
import torch

from scaling_lib.config import ModelConfig
from scaling_lib.lm import model as module_of_the_model
from scaling_lib.lm.model import GPT, attend, generate, rotate, rotation_tables

CONFIG = ModelConfig(n_layer=2, n_head=4, d_model=32, vocab_size=300, seq_len=12)
GPT2_LIKE = ModelConfig(2, 4, 32, 300, 12, positions="learned", token_shift=False)


def reference_norm(x, gain):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain


def reference_rotation(x, n_head):
    """Channels i and i + half of each head as one complex number, turned by position * 1000 ** (-i / half)."""
    seq, d = x.shape
    half = d // n_head // 2
    pairs = x.reshape(seq, n_head, 2, half)
    turned = (pairs[:, :, 0] + 1j * pairs[:, :, 1]) * np.exp(
        1j * np.arange(seq)[:, None, None] * 1000.0 ** (-np.arange(half) / half)
    )
    return np.stack([turned.real, turned.imag], 2).reshape(seq, d)


def reference_attention(x, qkv, out, n_head, rotary):
    """Loops over heads and positions, with an explicit soft-max over the past."""
    seq, d = x.shape
    size = d // n_head
    q, k, v = np.split(x @ qkv.T, 3, axis=1)
    if rotary:
        q, k = reference_rotation(q, n_head), reference_rotation(k, n_head)
    y = np.zeros_like(x)
    for h in range(n_head):
        part = slice(h * size, (h + 1) * size)
        for t in range(seq):
            score = k[: t + 1, part] @ q[t, part] / math.sqrt(size)
            weight = np.exp(score - score.max())
            y[t, part] = weight / weight.sum() @ v[: t + 1, part]
    return y @ out.T


def reference_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def reference_block(x, p, prefix, n_head, rotary):
    a = reference_norm(x, p[prefix + "norm_attention.weight"])
    x = x + reference_attention(
        a, p[prefix + "attention.query_key_value.weight"], p[prefix + "attention.output.weight"], n_head, rotary
    )
    f = reference_norm(x, p[prefix + "norm_feed_forward.weight"])
    hidden = reference_gelu(f @ p[prefix + "feed_forward.expand.weight"].T)
    return x + hidden @ p[prefix + "feed_forward.contract.weight"].T


def reference_logits(tokens, p, config):
    x = p["token_embedding.weight"][tokens]
    if config.token_shift:
        x = x + p["token_shift"] * np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    if config.positions == "learned":
        x = x + p["position_embedding.weight"][: len(tokens)]
    for i in range(config.n_layer):
        x = reference_block(x, p, f"blocks.{i}.", config.n_head, config.positions == "rotary")
    return reference_norm(x, p["norm.weight"]) @ p["token_embedding.weight"].T


@pytest.fixture(params=[CONFIG, GPT2_LIKE], ids=["rotary", "learned"])
def model(request):
    built = GPT(request.param, seed=3).double()
    with torch.no_grad():  # gains other than 1, so that a forgotten gain is seen
        for p in built.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return built


def test_logits_and_loss_are_the_references(model):
    parameters = {name: p.detach().numpy() for name, p in model.named_parameters()}
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(300, size=(2, 12)), rng.integers(300, size=(2, 12))
    expected = np.stack([reference_logits(row, parameters, model.config) for row in tokens])
    got = model(torch.from_numpy(tokens)).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-7)  # the tables of rotations are in float32
    log_p = expected - np.log(np.exp(expected).sum(-1, keepdims=True))
    each = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    loss = model.loss(torch.from_numpy(tokens), torch.from_numpy(targets), reduction="none")
    np.testing.assert_allclose(loss.detach().numpy(), each, atol=1e-5)  # the loss is taken in float32
    mean = model.loss(torch.from_numpy(tokens), torch.from_numpy(targets)).item()
    assert mean == pytest.approx(each.mean(), abs=1e-5)


def test_a_later_token_never_changes_an_earlier_logit(model):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(300, (1, 12), generator=generator)
    before = model(tokens)
    for place in range(1, 12):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % 300
        after = model(changed)
        assert torch.equal(after[0, :place], before[0, :place])
        assert not torch.allclose(after[0, place], before[0, place])


@pytest.mark.parametrize(("d_model", "vocab_size"), [(32, 512), (256, 1024), (640, 10_000)])
def test_a_fresh_model_knows_nothing(d_model, vocab_size):
    model = GPT(ModelConfig(2, 4, d_model, vocab_size, 32))
    tokens = torch.randint(vocab_size, (8, 33), generator=torch.Generator().manual_seed(0))
    loss = model.loss(tokens[:, :-1], tokens[:, 1:]).item()
    assert loss == pytest.approx(math.log(vocab_size), abs=0.03)


def test_the_seed_sets_the_weights():
    same, other = GPT(CONFIG, seed=1), GPT(CONFIG, seed=2)
    again = GPT(CONFIG, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), again.parameters(), strict=True))
    assert not torch.equal(same.token_embedding.weight, other.token_embedding.weight)


def test_attention_in_bf16_and_written_out_is_the_fused_kernel_in_float32():
    """On a processor its backward pass in bf16 takes several times as long."""
    q, k, v = (torch.randn(2, 4, 12, 8, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v)
    expected = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(module_of_the_model._attend_written_out(q.float(), k.float(), v.float()), expected)


def test_products_of_rotated_vectors_depend_on_their_distance_alone():
    tables = rotation_tables(64, 8, dtype=torch.float64)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = rotate(q.expand(64, 8), tables) @ rotate(k.expand(64, 8), tables).T  # (query's place, key's place)
    for distance in range(64):
        along = scores.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    assert not torch.allclose(scores[1, 0], scores[2, 0])


def test_generated_tokens_have_the_models_probabilities():
    """500 continuations by one token; and the window slides where the text is longer than the model sees."""
    model = GPT(ModelConfig(1, 1, 8, 257, 4), seed=1)
    with torch.no_grad():
        model.norm.weight.fill_(20.0)  # probabilities far from equal
    text = torch.tensor([5, 6, 7, 8, 9, 10])
    probability = model(text[None, -4:])[0, -1].softmax(-1)
    likeliest = int(probability.argmax())
    found = torch.stack([generate(model, text, 1, seed=seed)[-1] for seed in range(500)])
    share = (found == likeliest).float().mean().item()
    p = probability[likeliest].item()
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 500)
    assert generate(model, text, 3, temperature=0).tolist()[:7] == [*text.tolist(), likeliest]
    assert torch.equal(generate(model, text, 9, seed=3), generate(model, text, 9, seed=3))

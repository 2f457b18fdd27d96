"""The loss in chunks against PyTorch's own, in value and in gradients, and that its logits never stand whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scaling_lib.lm import loss as losses
from scaling_lib.lm.loss import mean_cross_entropy, rows_per_chunk, token_cross_entropy


def inputs(n=100, d=16, vocab=400, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(n + d + vocab)
    hidden = scale * torch.randn(n, d, generator=generator, dtype=dtype)
    weight = torch.randn(vocab, d, generator=generator, dtype=dtype)
    targets = torch.randint(vocab, (n,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def plain(hidden, weight, targets):
    return F.cross_entropy((hidden @ weight.T).float(), targets)


def gradients(function, hidden, weight, targets, factor=1.0):
    hidden.grad = weight.grad = None
    loss = function(hidden, weight, targets)
    (factor * loss).backward()
    return loss.detach(), hidden.grad.clone(), weight.grad.clone()


@pytest.mark.parametrize("rows", [1, 7, 512])
def test_value_and_gradients_are_torchs_whatever_the_chunk(monkeypatch, rows):
    monkeypatch.setattr(losses, "rows_per_chunk", lambda vocab, device: rows)
    arguments = inputs()
    for got, expected in zip(gradients(mean_cross_entropy, *arguments, factor=3.0),
                             gradients(plain, *arguments, factor=3.0), strict=True):  # fmt: skip
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    each = token_cross_entropy(*arguments).detach()
    torch.testing.assert_close(each, F.cross_entropy(arguments[0] @ arguments[1].T, arguments[2], reduction="none"))


def test_under_autocast_it_is_as_good_as_torchs():
    """Against float64: the error of bf16 products must not be larger than that of the plain form."""
    arguments = inputs(n=512, d=64, vocab=2000)
    exact = gradients(plain, *(a.detach().double().requires_grad_() for a in arguments[:2]), arguments[2])
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(mean_cross_entropy, *arguments)
        torchs = gradients(plain, *arguments)
    assert ours[0].dtype == ours[1].dtype == ours[2].dtype == torch.float32
    for mine, theirs, truth in zip(ours, torchs, exact, strict=True):
        assert (mine - truth).norm() < 1.2 * (theirs - truth).norm() + 1e-4 * truth.norm()


def test_a_hopeless_logit_gives_a_finite_loss():
    hidden, weight, targets = inputs(scale=100.0)
    got, expected = mean_cross_entropy(hidden, weight, targets), plain(hidden, weight, targets)
    assert expected.item() > 200  # beyond what a probability in float32 can hold
    torch.testing.assert_close(got, expected)


def test_the_logits_never_stand_in_memory_whole():
    hidden, weight, targets = inputs(n=4096, d=8, vocab=10_000)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        mean_cross_entropy(hidden, weight, targets).backward()
    largest = max(event.self_cpu_memory_usage / max(event.count, 1) for event in profile.key_averages())
    assert largest < 4 * losses.CHUNK_LOGITS["cpu"] * 1.01 < 4096 * 10_000 * 4


def test_a_chunk_is_a_power_of_two_of_tokens_and_holds_what_it_may():
    for vocab in (257, 1000, 65_535):
        for device in ("cpu", "cuda", "mps"):
            rows = rows_per_chunk(vocab, device)
            assert rows & (rows - 1) == 0
            allowed = losses.CHUNK_LOGITS.get(device, 2**24)
            assert rows * vocab <= allowed < 2 * rows * vocab


def test_numbers_of_one_token_are_exact():
    hidden, weight, targets = inputs(n=1, d=3, vocab=300)
    logits = (hidden @ weight.T).detach().double().numpy()[0]
    expected = np.log(np.exp(logits).sum()) - logits[targets.item()]
    assert mean_cross_entropy(hidden, weight, targets).item() == pytest.approx(expected, abs=1e-5)

"""The clustered standard error against a bootstrap of whole documents, and token losses against torch."""

import numpy as np
import pytest
import torch

from scaling_lib.config import ModelConfig
from scaling_lib.lm.evaluate import clustered_mean, token_losses
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime


def test_clustered_error_is_that_of_resampling_documents():
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 200, size=80)
    document = np.repeat(np.arange(80), sizes)
    level = rng.normal(3.0, 0.5, size=80)  # documents differ: tokens of one are alike
    losses = level[document] + rng.normal(0, 1.0, size=len(document))
    mean, error = clustered_mean(losses, document)
    assert mean == pytest.approx(losses.mean())

    sums, counts = np.bincount(document, losses), np.bincount(document)
    picks = rng.integers(80, size=(4000, 80))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    assert error == pytest.approx(means.std(), rel=0.1)
    assert error > 4 * losses.std() / np.sqrt(len(losses))  # what treating tokens as independent would say


def test_order_shape_and_names_of_documents_do_not_matter():
    rng = np.random.default_rng(1)
    losses, document = rng.random((6, 10)), rng.integers(4, size=(6, 10))
    shuffle = rng.permutation(60)
    expected = clustered_mean(losses, document)
    assert clustered_mean(losses.ravel()[shuffle], document.ravel()[shuffle] * 7 + 3) == pytest.approx(expected)
    mean, error = clustered_mean(np.array([1.0, 2.0]), np.array([5, 5]))  # one document has no error
    assert (mean, np.isnan(error)) == (1.5, True)


def test_token_losses_are_the_cross_entropies_whatever_the_batching():
    config = ModelConfig(1, 2, 16, 300, 700)  # 4096 // 700 = 5 windows at a time: 7 do not divide
    model = GPT(config)
    rng = np.random.default_rng(0)
    x, y = rng.integers(300, size=(7, 700)), rng.integers(300, size=(7, 700))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(
            model(torch.from_numpy(x)).permute(0, 2, 1), torch.from_numpy(y), reduction="none"
        )
    got = token_losses(model, x.astype(np.uint16), y.astype(np.uint16), Runtime("cpu", "float32", False, 1))
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)
    assert model.training

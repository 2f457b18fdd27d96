"""The training loop: against a plain loop, from a trunk, when it diverges, and where nothing can be learnt."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from scaling_lib.config import ModelConfig, RunConfig, TrainConfig
from scaling_lib.counting import count_parameters, training_bytes
from scaling_lib.errors import InputError
from scaling_lib.lm import train as training
from scaling_lib.lm.batches import batch, val_windows
from scaling_lib.lm.corpus import load_corpus
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime, _micro_batch, choose_runtime
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.lm.train import train
from scaling_lib.sweep.recipes import cells

EXACT = Runtime("cpu", "float32", False, 1)
MODEL = ModelConfig(1, 2, 16, 300, 16)
UNIFORM = "uniform:train_tokens=40000,val_tokens=8192"
WALK = "random-walk:train_tokens=60000,val_tokens=8192"


def configure(corpus=UNIFORM, **changes) -> RunConfig:
    plain = TrainConfig("v2", 40, 8, 0.01, "cosine", warmup_steps=4, weight_decay=0.01, eval_tokens=4096)
    return RunConfig(MODEL, replace(plain, **changes), corpus)


@pytest.fixture(scope="module")
def uniform():
    return load_corpus(UNIFORM, 300)


@pytest.fixture(scope="module")
def walk():
    return load_corpus(WALK, 300)


def test_the_loop_is_a_plain_loop_over_torchs_adamw(walk):
    """The reference keeps AdamW unfused and writes the loop out."""
    config = configure(WALK, max_steps=12, grad_clip=0.1)  # below every norm, so that it is seen at every step
    torch.set_num_threads(1)
    model = GPT(MODEL, seed=0)
    decayed = [p for p in model.parameters() if p.dim() == 2]
    kept = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), foreach=False, fused=False)
    losses = []
    for step in range(12):
        x, y = (torch.from_numpy(a) for a in batch(walk.train, 0, step, 8, 16))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.train)
        optimizer.step()
        losses.append(loss.item())

    run = train(config, walk, runtime=EXACT)
    assert [p.step for p in run.history] == list(range(13))
    assert run.history[0].train_loss == pytest.approx(losses[0], abs=1e-5)
    assert [p.train_loss for p in run.history[1:]] == pytest.approx(losses, abs=1e-4)
    x, y, _ = val_windows(walk, 16, 4096)
    with torch.no_grad():
        logits = model(torch.from_numpy(x.astype(np.int64)))
        expected = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(y.astype(np.int64)).flatten()
        )
    assert run.val_loss == pytest.approx(expected.item(), abs=1e-4)


def test_weight_decay_acts_on_matrices_only():
    model = GPT(MODEL)
    decay = {
        id(p): group["weight_decay"]
        for group in training.make_optimizer(model, configure(weight_decay=0.3).train).param_groups
        for p in group["params"]
    }
    for name, p in model.named_parameters():
        assert decay.pop(id(p)) == (0.0 if p.dim() == 1 else 0.3), name
    assert not decay  # every parameter once, and nothing else


def test_a_gain_does_not_shrink_and_a_matrix_does():
    """Without a gradient the update is the decay alone: p times (1 - lr x decay) at every step."""
    model = GPT(MODEL)
    optimizer = training.make_optimizer(model, configure(weight_decay=0.3).train)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(5):
        optimizer.step()
    for name, p in model.named_parameters():
        expected = before[name] * (1.0 if p.dim() == 1 else (1 - 0.1 * 0.3) ** 5)
        torch.testing.assert_close(p.detach(), expected, msg=name)


def test_the_record_says_what_was_done(walk):
    run = train(configure(WALK), walk, runtime=EXACT)
    assert run.status == "finished"
    assert run.epochs == pytest.approx(40 * 8 * 16 / len(walk.train), rel=0.01)
    assert run.corpus["entropy_rate"] == pytest.approx(walk.entropy_rate)
    assert run.environment["dtype"] == "float32"
    assert run.history[-1].step == 40
    assert run.history[-1].n_tokens == 40 * 8 * 16 == run.counts["n_tokens"]
    assert run.history[-1].val_loss == run.val_loss  # a curve is measured on no more than eval_tokens
    assert run.val_loss < math.log(300) - 0.1  # learnt something, though 40 steps are few
    assert run.val_loss > walk.entropy_rate


def test_history_is_thinned_to_its_points_and_means_cover_every_step(walk):
    run = train(configure(WALK, max_steps=200), walk, runtime=EXACT, history_points=10)
    full = train(configure(WALK, max_steps=200), walk, runtime=EXACT, history_points=1000)
    steps = [p.step for p in run.history]
    assert steps[0] == 0
    assert steps[-1] == 200
    assert len(steps) <= 10 + 7  # and the steps at which validation was measured
    every = {p.step: p.train_loss for p in full.history}
    for before, here in zip(run.history, run.history[1:], strict=False):
        expected = np.mean([every[s] for s in range(before.step + 1, here.step + 1)])
        assert here.train_loss == pytest.approx(expected, rel=1e-5)


def test_uniform_tokens_cannot_be_learnt_below_ln_v(uniform):
    run = train(configure(max_steps=150), uniform, runtime=EXACT)
    assert run.val_loss > math.log(300) - 1e-3
    assert run.val_loss == pytest.approx(math.log(300), abs=0.1)


def test_a_rate_near_zero_stays_at_ln_v(walk):
    run = train(configure(WALK, lr=1e-8), walk, runtime=EXACT)
    assert run.val_loss == pytest.approx(math.log(300), abs=0.03)


def test_the_same_seed_gives_the_same_run_and_another_another(walk):
    first, again = (train(configure(WALK), walk, runtime=EXACT) for _ in range(2))
    assert first.val_loss == again.val_loss
    assert first.history == again.history
    assert train(configure(WALK, seed=1), walk, runtime=EXACT).val_loss != first.val_loss


def test_a_run_that_diverges_says_so(walk, monkeypatch):
    def explode(step, config):
        return math.inf if step == 17 else learning_rate(step, config)

    monkeypatch.setattr(training, "learning_rate", explode)
    run = train(configure(WALK), walk, runtime=EXACT)
    assert run.status == "diverged"
    assert run.val_loss is None
    # The update of step 17 spoils the weights: the loss of step 18 is the first that is no number.
    assert run.history[-1].train_loss is None
    assert run.history[-1].step == 19
    assert all(p.train_loss is not None for p in run.history[:-1])


@pytest.mark.parametrize("lengths", [(50, 100), (50, 100, 200)])
def test_a_run_off_a_trunk_is_the_run_trained_alone(walk, tmp_path, lengths):
    def wsd(steps):
        return configure(WALK, recipe="wsd", schedule="wsd", max_steps=steps, warmup_steps=5, decay_steps=steps // 5)

    branched = [train(wsd(n), walk, runtime=EXACT, checkpoint_dir=tmp_path) for n in lengths]
    alone = [train(wsd(n), walk, runtime=EXACT) for n in lengths]
    assert [r.environment["branched_at_step"] for r in branched] == [0, *(n * 4 // 5 for n in lengths[:-1])]
    for a, b in zip(branched, alone, strict=True):
        assert a.val_loss == b.val_loss
        assert a.history == b.history


def test_a_shorter_run_does_not_begin_at_the_trunk_of_a_longer_one(walk, tmp_path):
    long, short = (
        configure(WALK, recipe="wsd", schedule="wsd", max_steps=n, warmup_steps=5, decay_steps=n // 5) for n in (60, 30)
    )
    train(long, walk, runtime=EXACT, checkpoint_dir=tmp_path)
    run = train(short, walk, runtime=EXACT, checkpoint_dir=tmp_path)
    assert run.environment["branched_at_step"] == 0
    assert run.history == train(short, walk, runtime=EXACT).history


def test_a_trunk_computed_in_another_way_is_not_shared(walk, tmp_path):
    config = configure(WALK, recipe="wsd", schedule="wsd", max_steps=50, warmup_steps=5, decay_steps=10)
    train(config, walk, runtime=EXACT, checkpoint_dir=tmp_path)
    longer = replace(config, train=replace(config.train, max_steps=100, decay_steps=20))
    run = train(longer, walk, runtime=Runtime("cpu", "bfloat16", False, 1), checkpoint_dir=tmp_path)
    assert run.environment["branched_at_step"] == 0


def test_bf16_ends_close_to_float32(walk):
    full, half = (train(configure(WALK), walk, runtime=Runtime("cpu", d, False, 1)) for d in ("float32", "bfloat16"))
    assert half.val_loss == pytest.approx(full.val_loss, rel=0.01)
    assert half.val_loss != full.val_loss


@pytest.mark.slow
def test_a_compiled_run_ends_where_an_eager_one_does(walk):
    """Takes a C++ compiler and about half a minute; without it the compiled path is not tried."""
    config = configure(WALK)
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler: the compiled path is not tried")
    compiled = train(config, walk, runtime=Runtime("cpu", "float32", True, 1))
    assert compiled.val_loss == pytest.approx(train(config, walk, runtime=EXACT).val_loss, abs=1e-3)


def test_progress_is_told(walk):
    said = []
    train(configure(WALK), walk, runtime=EXACT, on_progress=said.append)
    assert said[-1].step == said[-1].max_steps == 40
    assert math.isfinite(said[-1].loss)
    assert said[-1].tokens_per_second > 0


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_a_batch_in_parts_is_the_batch(walk, micro_batch):
    """To within the rounding of float32, over 40 updates; in the record stands how it was computed."""
    whole = train(configure(WALK), walk, runtime=EXACT)
    parts = train(configure(WALK), walk, runtime=replace(EXACT, micro_batch=micro_batch))
    assert [p.train_loss for p in parts.history] == pytest.approx([p.train_loss for p in whole.history], abs=2e-4)
    assert parts.val_loss == pytest.approx(whole.val_loss, abs=2e-4)
    assert parts.environment["micro_batch"] == micro_batch
    assert "micro_batch" not in whole.environment


def test_the_largest_model_of_full_fits_a_card_of_80_gb():
    largest = max(cells("full"), key=lambda c: count_parameters(c.model).total)
    parts = _micro_batch(largest, 80e9, 2)
    assert 0 < parts < largest.train.batch_size
    assert largest.train.batch_size % parts == 0
    assert training_bytes(largest.model, parts, 2) < 0.8 * 80e9 < training_bytes(largest.model, 2 * parts, 2)
    assert _micro_batch(largest, 200e9, 2) == 0
    assert _micro_batch(largest, 1.0, 2) == 1  # nothing fits: as little as can be


def test_choosing_a_runtime():
    small, large = configure(), replace(configure(max_steps=10**6), model=ModelConfig(4, 4, 256, 10_000, 256))
    assert not choose_runtime(small, device="cpu").compile
    assert choose_runtime(small, device="cpu").micro_batch == 0
    assert choose_runtime(large, device="cpu", dtype="float32").dtype == "float32"
    assert choose_runtime(small, device="cpu", threads=1).threads == 1
    for wrong in ({"device": "tpu"}, {"dtype": "float16"}, {"threads": 0}):
        with pytest.raises(InputError):
            choose_runtime(small, **wrong)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="use --device cpu"):
            choose_runtime(small, device="cuda")

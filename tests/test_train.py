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
from scaling_lib.lm import runtime as module_of_runtimes
from scaling_lib.lm import train as training
from scaling_lib.lm.batches import batch, val_windows
from scaling_lib.lm.checkpoint import TrainState, own_path, save_state
from scaling_lib.lm.corpus import load_corpus, load_tokenizer
from scaling_lib.lm.model import GPT
from scaling_lib.lm.runtime import Runtime, _micro_batch, choose_runtime
from scaling_lib.lm.schedule import learning_rate
from scaling_lib.lm.train import train
from scaling_lib.sweep.recipes import cells

EXACT = Runtime("cpu", "float32", False, 1)
MODEL = ModelConfig(1, 2, 16, 257, 16)
WALK = "random-walk:train_tokens=60000,val_tokens=8192"


def configure(**changes) -> RunConfig:
    plain = TrainConfig("v2", 40, 8, 0.01, "cosine", warmup_steps=4, weight_decay=0.01, eval_tokens=4096)
    return RunConfig(MODEL, replace(plain, **changes), WALK)


def wsd(steps: int) -> RunConfig:
    return configure(recipe="wsd", schedule="wsd", max_steps=steps, warmup_steps=5, decay_steps=steps // 5)


@pytest.fixture(scope="module")
def plain_run(walk):
    return train(configure(), walk, runtime=EXACT, history_points=1000)


def test_the_loop_is_a_plain_loop_over_torchs_adamw(walk):
    """The reference keeps AdamW unfused and writes the loop out."""
    config = configure(max_steps=12, grad_clip=0.1)  # below every norm, so that it is seen at every step
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
        logits = model(torch.from_numpy(x)).flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y).flatten())
    assert run.val_loss == pytest.approx(expected.item(), abs=1e-4)


def test_weight_decay_shrinks_matrices_and_no_gain():
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


def test_the_record_says_what_was_done(plain_run, walk):
    assert plain_run.status == "finished"
    assert plain_run.epochs == pytest.approx(40 * 8 * 16 / len(walk.train), rel=0.01)
    assert plain_run.corpus["entropy_rate"] == pytest.approx(walk.entropy_rate)
    assert plain_run.environment["dtype"] == "float32"
    assert plain_run.history[-1].step == 40
    assert plain_run.history[-1].n_tokens == 40 * 8 * 16 == plain_run.counts["n_tokens"]
    assert plain_run.history[-1].val_loss == plain_run.val_loss  # a curve is measured on no more than eval_tokens
    assert walk.entropy_rate < plain_run.val_loss < math.log(257) - 0.1  # learnt something, though 40 steps are few
    assert plain_run.tokens_per_second > 0


def test_a_record_keeps_of_a_path_only_its_last_part(walk):
    own = replace(walk, details={**walk.details, "label": "text:book.txt"})
    config = replace(configure(max_steps=2, warmup_steps=1), corpus="text:/home/me/private/book.txt")
    run = train(config, own, runtime=EXACT)
    assert run.config.corpus == "text:book.txt"
    assert run.run_id == train(replace(config, corpus="text:elsewhere/book.txt"), own, runtime=EXACT).run_id


def test_history_is_thinned_to_its_points_and_means_cover_every_step(plain_run, walk):
    run = train(configure(), walk, runtime=EXACT, history_points=6)
    assert (run.val_loss, run.history[0]) == (plain_run.val_loss, plain_run.history[0])  # the same seed, the same run
    assert (run.history[0].step, run.history[-1].step) == (0, 40)
    assert len(run.history) <= 6 + 4  # and the steps at which validation was measured
    every = {p.step: p.train_loss for p in plain_run.history}
    for before, here in zip(run.history, run.history[1:], strict=False):
        expected = np.mean([every[s] for s in range(before.step + 1, here.step + 1)])
        assert here.train_loss == pytest.approx(expected, rel=1e-5)


def test_uniform_tokens_cannot_be_learnt_below_ln_v(uniform):
    run = train(configure(max_steps=100), uniform, runtime=EXACT)
    assert math.log(257) - 1e-3 < run.val_loss < math.log(257) + 0.1


def test_a_rate_near_zero_stays_at_ln_v_and_another_seed_is_another_run(plain_run, walk):
    runs = [train(configure(lr=1e-8, max_steps=4, warmup_steps=0, seed=s), walk, runtime=EXACT) for s in (0, 1)]
    assert [r.val_loss for r in runs] == pytest.approx([math.log(257)] * 2, abs=0.03)
    assert runs[0].val_loss != runs[1].val_loss


def test_a_run_that_diverges_says_so(walk, monkeypatch):
    def explode(step, config):
        return math.inf if step == 17 else learning_rate(step, config)

    monkeypatch.setattr(training, "learning_rate", explode)
    run = train(configure(), walk, runtime=EXACT)
    assert run.status == "diverged"
    assert run.val_loss is None
    # The update of step 17 spoils the weights: the loss of step 18 is the first that is no number.
    assert run.history[-1].train_loss is None
    assert run.history[-1].step == 19
    assert all(p.train_loss is not None for p in run.history[:-1])


def test_runs_off_a_trunk_are_the_runs_trained_alone(walk, tmp_path):
    lengths = (15, 30, 60)
    branched = [train(wsd(n), walk, runtime=EXACT, checkpoint_dir=tmp_path) for n in lengths]
    assert [r.environment["branched_at_step"] for r in branched] == [0, 12, 24]
    for run, n in zip(branched, lengths, strict=True):
        alone = train(wsd(n), walk, runtime=EXACT)
        assert (run.val_loss, run.history) == (alone.val_loss, alone.history)
    # A shorter run does not begin at the trunk of a longer one, and none at one that was computed in another way.
    assert train(wsd(8), walk, runtime=EXACT, checkpoint_dir=tmp_path).environment["branched_at_step"] == 0
    half = train(wsd(20), walk, runtime=Runtime("cpu", "bfloat16", False, 1), checkpoint_dir=tmp_path)
    assert half.environment["branched_at_step"] == 0
    # And a run without a decay may end where a trunk does.
    bare = configure(recipe="wsd", schedule="wsd", max_steps=24, warmup_steps=5)
    run = train(bare, walk, runtime=EXACT, checkpoint_dir=tmp_path)
    assert run.environment["branched_at_step"] == 24
    assert run.val_loss == train(bare, walk, runtime=EXACT).val_loss


def test_bf16_ends_close_to_float32(plain_run, walk):
    half = train(configure(), walk, runtime=Runtime("cpu", "bfloat16", False, 1))
    assert half.val_loss == pytest.approx(plain_run.val_loss, rel=0.01)
    assert half.val_loss != plain_run.val_loss


@pytest.mark.slow
def test_a_compiled_run_ends_where_an_eager_one_does(plain_run, walk):
    """Takes a C++ compiler and about half a minute; without it the compiled path is not tried."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler: the compiled path is not tried")
    compiled = train(configure(), walk, runtime=Runtime("cpu", "float32", True, 1))
    assert compiled.environment["compile"]
    assert compiled.val_loss == pytest.approx(plain_run.val_loss, abs=1e-3)


def test_where_nothing_can_be_compiled_a_run_is_eager_and_says_so(plain_run, walk, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    module_of_runtimes.compile_error.cache_clear()
    run = train(configure(), walk, runtime=replace(EXACT, compile=True), history_points=1000)
    assert (run.environment["compile"], run.environment["compile_failed"]) == (False, "RuntimeError")
    assert "compile_failed" not in plain_run.environment
    assert (run.val_loss, run.history) == (plain_run.val_loss, plain_run.history)
    # A run that was begun compiled elsewhere goes on here.
    state = TrainState(0, (model := GPT(MODEL)).state_dict(), {}, torch.zeros(0))
    state.optimizer = training.make_optimizer(model, configure().train).state_dict()
    save_state(own_path(tmp_path, configure(), walk.fingerprint), state, replace(EXACT, compile=True))
    resumed = train(configure(), walk, runtime=EXACT, checkpoint_dir=tmp_path)
    assert resumed.environment["compile_failed"] == "RuntimeError"
    assert resumed.val_loss == plain_run.val_loss
    module_of_runtimes.compile_error.cache_clear()


def test_bits_per_byte_are_of_the_bytes_that_the_loss_was_measured_on(small_text):
    """A sample of a few windows, spelt out by the tokenizer itself."""
    text = load_corpus(f"text:{small_text}", 300)
    config = replace(configure(max_steps=5, eval_tokens=64), model=replace(MODEL, vocab_size=300))
    run = train(config, text, runtime=EXACT)
    _, targets, _ = val_windows(text, MODEL.seq_len, 64)
    spelt = load_tokenizer(text).decode(targets.ravel().tolist(), skip_special_tokens=True).encode()
    assert len(spelt) != pytest.approx(targets.size * text.val_bytes_per_token, rel=1e-3)
    assert run.bits_per_byte == pytest.approx(run.val_loss * targets.size / math.log(2) / len(spelt))


def test_progress_is_told(walk):
    said = []
    train(configure(max_steps=6), walk, runtime=EXACT, on_progress=lambda **told: said.append(told))
    assert said[-1]["done"] == 1
    assert math.isfinite(said[-1]["loss"])
    assert said[-1]["tokens_per_second"] > 0


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_a_batch_in_parts_is_the_batch(plain_run, walk, micro_batch):
    """To within the rounding of float32, over 40 updates; in the record stands how it was computed."""
    parts = train(configure(), walk, runtime=replace(EXACT, micro_batch=micro_batch), history_points=1000)
    assert [p.train_loss for p in parts.history] == pytest.approx([p.train_loss for p in plain_run.history], abs=2e-4)
    assert parts.val_loss == pytest.approx(plain_run.val_loss, abs=2e-4)
    assert parts.environment["micro_batch"] == micro_batch
    assert "micro_batch" not in plain_run.environment


def test_the_largest_model_of_full_fits_a_card_of_80_gb():
    largest = max(cells("full"), key=lambda c: count_parameters(c.model).total)
    parts = _micro_batch(largest, 80e9, 2)
    assert 0 < parts < largest.train.batch_size
    assert largest.train.batch_size % parts == 0
    assert training_bytes(largest.model, parts, 2) < 0.8 * 80e9 < training_bytes(largest.model, 2 * parts, 2)
    assert _micro_batch(largest, 200e9, 2) == 0


def test_choosing_a_runtime():
    small, large = configure(), replace(configure(max_steps=10**6), model=ModelConfig(4, 4, 256, 10_000, 256))
    chosen = choose_runtime(small, device="cpu", threads=1)
    assert (chosen.device, chosen.compile, chosen.micro_batch, chosen.threads) == ("cpu", False, 0, 1)
    assert choose_runtime(large, device="cpu", dtype="float32").dtype == "float32"
    absent = [] if torch.cuda.is_available() else [{"device": "cuda"}]
    for wrong in [{"device": "tpu"}, {"dtype": "float16"}, {"threads": 0}, *absent]:
        with pytest.raises(InputError):
            choose_runtime(small, **wrong)

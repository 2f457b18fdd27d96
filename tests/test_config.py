"""Configurations are checked where they are made, and a run's name changes with what the run is."""

import hashlib
import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_lib.config import (
    ModelConfig,
    RunConfig,
    TrainConfig,
    digest,
    model_fields,
    model_from_fields,
    run_id,
    trunk_id,
)
from scaling_lib.errors import InputError

ONE_LINE = r"\A[^\n]+\Z"
MODEL = ModelConfig(n_layer=2, n_head=4, d_model=64, vocab_size=512, seq_len=32)
TRAIN = TrainConfig("v2", 100, 8, 1e-3, "cosine", warmup_steps=10, weight_decay=0.01)
WSD = TrainConfig("wsd", 100, 8, 1e-3, "wsd", warmup_steps=10, decay_steps=20)
RUN = RunConfig(MODEL, TRAIN, "uniform")
# One other valid value for every field.
OTHER_MODEL = {"n_layer": 3, "n_head": 2, "d_model": 128, "vocab_size": 513, "seq_len": 33,
               "positions": "learned", "token_shift": False}  # fmt: skip
OTHER_TRAIN = {
    "recipe": "v1", "max_steps": 101, "batch_size": 9, "lr": 2e-3, "schedule": "constant", "warmup_steps": 11,
    "decay_steps": 1, "weight_decay": 0.02, "seed": 1, "beta1": 0.8, "beta2": 0.99, "grad_clip": 2.0,
    "eval_tokens": 1,
}  # fmt: skip


WHOLE = (0, -1, 1.5, 64.0, "64", None, True, float("nan"))


@pytest.mark.parametrize("name", [f.name for f in fields(ModelConfig)][:5])
def test_a_model_is_made_of_positive_whole_numbers(name):
    for value in WHOLE:
        with pytest.raises(InputError, match=rf"\A[^\n]*{name}[^\n]*\Z"):
            replace(MODEL, **{name: value})


def test_models_that_cannot_be_built_are_refused():
    odd_heads = {"d_model": 68}  # of width 17, which no rotation pairs up
    for changes in ({"positions": "sinusoid"}, {"positions": None}, {"token_shift": 1}, odd_heads, {"n_head": 5},
                    {"vocab_size": 256}, {"vocab_size": 65_536}):  # fmt: skip
        with pytest.raises(InputError, match=ONE_LINE):
            replace(MODEL, **changes)
    assert replace(MODEL, **odd_heads, positions="learned").d_model == 68
    assert [replace(MODEL, vocab_size=v).vocab_size for v in (257, 65_535)] == [257, 65_535]


def test_a_model_without_the_new_switches_keeps_the_name_that_its_records_have():
    old = replace(RUN, model=replace(MODEL, positions="learned", token_shift=False))
    plain = {"n_layer": 2, "n_head": 4, "d_model": 64, "vocab_size": 512, "seq_len": 32}
    identity = {"model": plain, "train": asdict(TRAIN), "corpus": "0" * 64}
    assert run_id(old, "0" * 64).endswith(digest(identity, 10))
    assert model_from_fields(plain) == old.model
    for model in (MODEL, old.model, replace(MODEL, token_shift=False)):
        assert model_from_fields(model_fields(model)) == model


BAD = {
    **dict.fromkeys(("max_steps", "batch_size", "eval_tokens"), (0, -5, 2.0, "9", True)),
    **dict.fromkeys(("warmup_steps", "decay_steps", "seed"), (-1, 0.5, None)),
    **dict.fromkeys(("lr", "grad_clip"), (0, -1e-3, float("nan"), float("inf"), "1e-3")),
    "weight_decay": (-0.1, float("nan")),
    **dict.fromkeys(("beta1", "beta2"), (1.0, -0.1, float("nan"))),
    "recipe": ("", "a b", "../x", "a/b", None, 12),
    "schedule": ("linear",),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_training_values_are_refused_by_name(name):
    for value in BAD[name]:
        with pytest.raises(InputError, match=rf"\A[^\n]*{name}[^\n]*\Z"):
            replace(TRAIN, **{name: value})


def test_warm_up_and_decay_may_fill_a_run_but_not_exceed_it():
    assert replace(WSD, warmup_steps=80).decay_start == 80
    with pytest.raises(InputError, match=ONE_LINE):
        replace(WSD, warmup_steps=81)


def test_digest_is_sha256_of_canonical_json_whatever_the_order_of_keys():
    one, two = {"b": [1.5, None, "é"], "a": {"y": 1, "x": True}}, {"a": {"x": True, "y": 1}, "b": [1.5, None, "é"]}
    text = json.dumps(one, sort_keys=True, separators=(",", ":"))
    assert digest(one) == digest(two) == hashlib.sha256(text.encode()).hexdigest()
    assert digest(one, 10) == digest(one)[:10]


@given(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.text()))
def test_digest_survives_json(data):
    assert digest(json.loads(json.dumps(data))) == digest(data)


def test_every_field_that_changes_the_experiment_changes_its_name():
    assert set(OTHER_MODEL) == set(asdict(MODEL))
    assert set(OTHER_TRAIN) == set(asdict(TRAIN))
    variants = [
        RUN,
        *[replace(RUN, model=replace(MODEL, **{k: v})) for k, v in OTHER_MODEL.items()],
        *[replace(RUN, train=replace(TRAIN, **{k: v})) for k, v in OTHER_TRAIN.items()],
    ]
    names = [run_id(c, "0" * 64) for c in variants] + [run_id(RUN, "1" * 64)]
    assert len(set(names)) == len(names)
    assert names[0] == run_id(RunConfig(MODEL, TRAIN, "the same text by another name"), "0" * 64)
    assert names[0].startswith("v2-2x64-s100-r0-")


def test_runs_of_one_trunk_differ_in_their_length_alone():
    def trunk(train: TrainConfig = WSD, model: ModelConfig = MODEL, text: str = "0" * 64) -> str:
        return trunk_id(RunConfig(model, train, "uniform"), text)

    longer = replace(WSD, max_steps=200, decay_steps=40, eval_tokens=999)
    assert trunk(longer) == trunk()
    shared = ("max_steps", "decay_steps", "eval_tokens")
    others = [trunk(replace(WSD, **{k: v})) for k, v in OTHER_TRAIN.items() if k not in shared]
    others += [trunk(model=replace(MODEL, **{k: v})) for k, v in OTHER_MODEL.items()]
    others += [trunk(text="1" * 64)]
    assert len({trunk(), *others}) == len(others) + 1

"""Which questions a folder of records answers, and that words and numbers say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from scaling_lib.runs import Run
from scaling_lib.show.studies import study_numbers, study_texts


def test_a_plain_ladder_answers_none(make_run: Callable[..., Run]) -> None:
    runs = [make_run(d_model=d, loss=3 + 20 / d) for d in (16, 32, 48, 64, 96)]
    assert study_texts(runs) == []
    assert study_numbers(runs) == {}


def test_a_grid_of_known_entropy_answers_for_its_floors(make_run: Callable[..., Run]) -> None:
    runs = []
    for d_model in (16, 32, 48, 64):
        for steps in (100, 200, 400):
            run = make_run("wsd", d_model=d_model, steps=steps, loss=1.7 + 8 / d_model + 40 / steps)
            runs.append(replace(run, corpus={**run.corpus, "entropy_rate": 1.7}))
    numbers = study_numbers(runs)
    assert numbers["true_floor"] == 1.7
    assert [f["n_tokens"] for f in numbers["floors"]] == [102_400, 204_800, 409_600, None]
    (text,) = study_texts(runs)
    assert all(f"{f['E']:.3f}" in text for f in numbers["floors"])


def test_many_seeds_answer_for_the_intervals(make_run: Callable[..., Run]) -> None:
    runs = [
        make_run(d_model=d, seed=s, loss=3 + 20 / d + 0.01 * ((7 * s + d) % 5))
        for s in range(10)
        for d in (16, 32, 48, 64, 96, 128)
    ]
    numbers = study_numbers(runs)
    assert [t["hidden"] for t in numbers["retrained"]] == [1]  # five sizes must be left to fit
    assert numbers["retrained"][0]["trials"] + numbers["retrained"][0]["refused"] == 10
    assert f"{numbers['retrained'][0]['held']} of {numbers['retrained'][0]['trials']}" in study_texts(runs)[0]


def test_two_recipes_on_a_grid_answer_for_the_change(make_run: Callable[..., Run]) -> None:
    runs = [
        make_run(
            recipe, d_model=d, steps=steps, seed=s, loss=2 + 8 / d + (40 + 5 * (recipe == "v2")) / steps + 0.01 * s
        )
        for recipe in ("v1-long", "v2")
        for d in (16, 32, 48, 64)
        for steps in (100, 200, 400)
        for s in range(3)
    ]
    numbers = study_numbers(runs)
    (effect,) = numbers["effects"]
    assert (effect["reference"], effect["other"]) == ("v1-long", "v2")
    assert len(effect["cells"]) == 12
    assert effect["cells"][0]["mean"] > 0
    assert "V2 less V1-LONG" in study_texts(runs)[0]
    json.dumps(numbers)


def test_seeds_of_two_lengths_are_no_retrained_ladders(make_run: Callable[..., Run]) -> None:
    runs = [
        make_run(d_model=d, seed=s, steps=steps, loss=3 + 20 / d + 10 / steps + 0.01 * ((7 * s + d) % 5))
        for s in range(10)
        for d in (16, 32, 48, 64, 96, 128)
        for steps in (100, 200)
    ]
    assert "retrained" not in study_numbers(runs)

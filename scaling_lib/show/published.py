"""Which published laws and models are shown, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.published import Model, PublishedLaw

T = TypeVar("T")
JOINT = ("chinchilla-epoch", "kaplan-joint")
MODELS = ("GPT-3 175B", "GPT-4 (rumour)", "Llama 3 405B")


def known_models(names: Sequence[str] = MODELS) -> list[Model]:
    """Published models by name, in that order."""
    by_name = {m.name: m for m in published.models()}
    return [_look_up(by_name, name, "model") for name in names]


def joint_laws(names: Sequence[str] = JOINT) -> list[PublishedLaw]:
    """Published laws of N and D by name."""
    by_name = {name: law for name, law in published.laws.items() if law.law.variables == ("N", "D")}
    return [_look_up(by_name, name, "law of N and D") for name in names]


def _look_up(by_name: Mapping[str, T], name: str, what: str) -> T:
    if name not in by_name:
        raise InputError(f"no published {what} is called {name!r}; there are {', '.join(by_name)}")
    return by_name[name]

"""Which published laws and models are shown, by name."""

from __future__ import annotations

from collections.abc import Sequence

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.published import Model

JOINT = ("chinchilla-epoch", "kaplan-joint")
MODELS = ("GPT-3 175B", "GPT-4 (rumour)", "Llama 3 405B")


def known_models(names: Sequence[str] = MODELS) -> list[Model]:
    """Published models by name, in that order."""
    by_name = {m.name: m for m in published.models()}
    for name in names:
        if name not in by_name:
            raise InputError(f"no published model is called {name!r}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names]

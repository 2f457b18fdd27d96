"""Published laws in a figure: each with its text and tokenizer, a band only where a covariance is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.published import Model, PublishedLaw
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import count_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def prediction_table(names: Sequence[str] = JOINT, models: Sequence[str] = MODELS) -> str:
    """What published laws say of published models, with the 90% interval of the law's mean where there is one."""
    laws = joint_laws(names)
    lines = [f"{'model':>16} {'N':>6} {'D':>6}" + "".join(f" {law.title[:28]:>30}" for law in laws)]
    for m in known_models(models):
        row = f"{m.name:>16} {short(m.n_params):>6} {short(m.n_tokens):>6}"
        for law in laws:
            text = f"{law.predict(m.n_params, m.n_tokens):.2f}"
            if law.cov is not None:
                low, high = law.interval(m.n_params, m.n_tokens)
                text += f" [{low:.2f}, {high:.2f}]"
            row += f" {text:>30}"
        lines.append(row)
    return "\n".join(lines)


def plot_published(axes: Axes | None = None, names: Sequence[str] = JOINT, tokens_per_param: float = 20.0) -> Axes:
    """Draw published laws against N at a fixed number of tokens per parameter, and the known models at their own D.

    The laws speak about different texts and tokenizers: compare their shapes, not their heights.
    """
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    n = np.logspace(7, 13, 100)
    for law, colour, marker in zip(joint_laws(names), ("#0072B2", "#D55E00", "#009E73"), "osD", strict=False):
        axes.plot(
            n, law.predict(n, tokens_per_param * n), color=colour, label=f"{law.title}\n{law.corpus}, {law.tokenizer}"
        )
        if law.cov is not None:
            axes.fill_between(n, *law.interval(n, tokens_per_param * n), color=colour, alpha=0.2, linewidth=0)
        for m in known_models():
            axes.plot(m.n_params, law.predict(m.n_params, m.n_tokens), marker, color=colour, markersize=7)
    for m in known_models():
        axes.axvline(m.n_params, color="#888888", linewidth=0.8, linestyle=":")
        axes.text(m.n_params, 0.02, m.name, rotation=90, ha="right", va="bottom", fontsize="x-small", color="#555555",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    count_axis(axes)
    axes.set_xlabel("parameters N (Kaplan: without embeddings)")
    axes.set_ylabel("loss (nats per token), each on its own text")
    axes.legend(fontsize="small", loc="upper right")
    return axes

"""From Kaplan's exponent to Chinchilla's: five switches, as published, and what counting alone does to a known law.

Kaplan et al. (2020) found N* ~ C^0.73, Hoffmann et al. (2022) C^0.50. Porian et al. (2024) trained their way from one
to the other, one change at a time. Pearce & Song (2024) showed that counting parameters and FLOPs without embeddings,
at small sizes, moves the exponent of one and the same law most of that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from scaling_lib.counting import Shape, count_parameters, training_flops
from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
SWITCHES = {
    "kaplan": "Kaplan's setting",
    "head-flops": "+ FLOPs of the\noutput head",
    "warm-up": "+ warm-up that\nfits the run",
    "matched-decay": "+ decay that\nends with the run",
    "tuned": "+ rate and batch\ntuned at each size",
}
CORPORA = {"refinedweb": "RefinedWeb", "openwebtext2": "OpenWebText2"}
KAPLAN_SIZES = (768.0, 1.5e9)  # non-embedding parameters of Kaplan's smallest and largest models
CHINCHILLA = 0.50  # approach 1


@dataclass(frozen=True)
class Switch:
    """One step of the ladder.

    name, label : the step. exponent : of N* ~ C^a with this and every earlier switch on. change : from the step
    before; 0 for the first.
    """

    name: str
    label: str
    exponent: float
    change: float


@dataclass(frozen=True)
class Counted:
    """Compute-optimal sizes of one law in one way of counting.

    flops, n_params : (m,) budgets and optimal sizes, both counted so. slope : exponent of the straight line through
    them in logarithms. local : (m,) the exponent at each budget.
    """

    flops: Floats
    n_params: Floats
    slope: float
    local: Floats


def five_switches(corpus: str = "refinedweb") -> tuple[Switch, ...]:
    """The ladder of Porian et al. (2024) on ``"refinedweb"`` or ``"openwebtext2"``.

    Raises
    ------
    InputError : for another corpus.
    """
    if corpus not in CORPORA:
        raise InputError(f"corpus={corpus!r} is unknown: choose one of {', '.join(CORPORA)}")
    values = [published.optima[f"porian-{corpus}-{name}-N"].exponent for name in SWITCHES]
    before = [values[0], *values]
    return tuple(
        Switch(name, label, value, value - last)
        for (name, label), value, last in zip(SWITCHES.items(), values, before, strict=False)
    )


def count_optimum(law: Fit, embeddings: bool, sizes: Sequence[float] = KAPLAN_SIZES, points: int = 80) -> Counted:
    """Optimal sizes of a law of *total* parameters, found with or without counting embeddings.

    Without them (Kaplan's way) a budget is C = 6 N_E D, and the model that is best for it has N_E parameters although
    its loss is that of N_T = N_E + 47491 N_E^(1/3) [Pearce & Song 2024; vocabulary 32,000]. With them (Chinchilla's)
    C = 6 N_T D.

    Parameters
    ----------
    law : of total N and of D; taken as the truth.
    embeddings : whether they are counted, in N and in C alike.
    sizes : smallest and largest optimal model, in non-embedding parameters; Kaplan's range.
    points : budgets, evenly in ln C.
    """
    low, high = (float(s) for s in sizes)
    if not 0 < low < high < np.inf:
        raise InputError(f"sizes={tuple(sizes)} must be two rising counts of non-embedding parameters")

    def counted(ln_n: float) -> float:
        """N as it is counted, for ln N_E."""
        n = float(np.exp(ln_n))
        return float(published.total_params(n)) if embeddings else n

    def best(ln_c: float) -> float:
        """The ln N_E whose loss is least at this budget."""

        def loss(ln_n: float) -> float:
            d = float(np.exp(ln_c)) / (6.0 * counted(ln_n))
            return float(law.predict(published.total_params(float(np.exp(ln_n))), d))

        return float(optimize.minimize_scalar(loss, bounds=(np.log(low) - 12, np.log(high) + 12), method="bounded",
                                              options={"xatol": 1e-7}).x)  # fmt: skip

    first, last = (optimize.brentq(lambda c, s=s: best(c) - np.log(s), np.log(6e4), np.log(1e30)) for s in (low, high))
    ln_c = np.linspace(first, last, points)
    ln_n = np.log([counted(best(c)) for c in ln_c])
    return Counted(
        flops=np.exp(ln_c),
        n_params=np.exp(ln_n),
        slope=float(np.polyfit(ln_c, ln_n, 1)[0]),
        local=np.gradient(ln_n, ln_c),
    )


def uncounted_share(shape: Shape) -> tuple[float, float]:
    """Shares of a model's training FLOPs that 6 N D with non-embedding N leaves out: (output head, attention products).

    The few parameters of the norms, which 6 N D counts although they cost no matrix product, are in neither.
    """
    total = training_flops(shape, 1)
    head = 6 * count_parameters(shape).token_embedding
    attention = 12 * shape.n_layer * shape.seq_len * shape.d_model
    return head / total, attention / total


def plot_switches(axes: Axes | None = None) -> Axes:
    """Draw the published ladder for both corpora, with Kaplan's 0.73 and Chinchilla's 0.50."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    places = np.arange(len(SWITCHES))
    for (corpus, title), colour, marker in zip(CORPORA.items(), ("#0072B2", "#D55E00"), "os", strict=True):
        axes.plot(places, [s.exponent for s in five_switches(corpus)], marker + "-", color=colour, label=title)
    kaplan = published.optima["kaplan-N"].exponent
    for value, name, x, side in ((kaplan, "Kaplan 2020", 4.4, "right"), (CHINCHILLA, "Chinchilla 2022", -0.35, "left")):
        axes.axhline(value, color="#888888", linewidth=1, linestyle=":")
        axes.text(x, value + 0.006, f"{name}: {value:.2f}", ha=side, va="bottom", color="#555555", fontsize="small")
    axes.set_xticks(places, list(SWITCHES.values()), fontsize="small")
    axes.set_xlim(-0.4, 4.45)
    axes.set_ylabel("exponent a of N* ~ C^a")
    axes.legend(loc="upper center")
    return axes


def plot_counting(law: Fit, axes: Axes | None = None) -> Axes:
    """Draw the exponent at each budget of one law, counted without embeddings and with them."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    for embeddings, name, colour, style in (
        (False, "without embeddings (Kaplan's way)", "#D55E00", "-"),
        (True, "with embeddings (Chinchilla's way)", "#0072B2", "--"),
    ):
        found = count_optimum(law, embeddings)
        label = f"{name}: {found.slope:.2f} over the whole range"
        axes.plot(found.flops, found.local, style, color=colour, label=label)
    kaplan = published.optima["kaplan-N"].exponent
    axes.axhline(kaplan, color="#888888", linewidth=1, linestyle=":")
    axes.text(0.99, kaplan + 0.01, f"Kaplan 2020: {kaplan:.2f}", color="#555555", fontsize="small", ha="right",
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0.4, 1.2)
    axes.set_xlabel("compute C (FLOP), counted the same way")
    axes.set_ylabel("exponent of N* ~ C^a at this budget")
    axes.legend(loc="upper left")
    return axes

"""A talk about sweeps: what laws and verdicts are, the sweeps' own stories, those of others, and what none can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.fit import backtests, published
from scaling_lib.runs import Run
from scaling_lib.show import plot
from scaling_lib.show.extrapolation import JOINT, known_models, plot_at_models
from scaling_lib.show.figures import Rule, about, sweep_stories
from scaling_lib.show.ladders import recipe_name, short, text_of
from scaling_lib.show.rates import is_rate_study
from scaling_lib.show.sliders.sources import published_source
from scaling_lib.show.story import Story, one_panel
from scaling_lib.show.versus import sides

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 9  # of a table on one slide
Sweeps = Sequence[tuple[str, Sequence[Run]]]


def talk(sweeps: Sweeps, rule: Rule | None = None) -> list[Story]:
    """The slides of a talk about sweeps (name and records of each), cover first; of none: about published laws.

    ``rule`` as in `sweep_stories`.
    """
    hours = sum(r.seconds for _, runs in sweeps for r in runs) / 3600
    own = [f"{sum(len(runs) for _, runs in sweeps)} small language models, {hours:.1f} hours of training in all",
           *dict.fromkeys(about(runs) for _, runs in sweeps)]  # fmt: skip
    title = "Neural scaling laws, measured" if sweeps else "Neural scaling laws, as published"
    cover = Story("", title, own if sweeps else ["What published laws say, and what may be believed"],
                  notes="Every number comes from these runs' records, or from a source that is named.")  # fmt: skip
    told = [story for _, runs in sweeps for story in sweep_stories(runs, rule) if story.headline]
    others = published_stories()
    return [cover, others[0], _verdicts(), *told, *others[1:], *_all_exponents(sweeps), *_end(sweeps)]


def published_stories() -> list[Story]:
    """What a law is, back-tests on models of others, and published laws at the known models: the same for all."""
    laws = [published_source(name) for name in JOINT]

    def at_models(figure: Figure) -> None:
        for axes, source in zip(figure.subplots(1, len(laws)), laws, strict=True):
            plot_at_models(source, axes).set_title(source.title.partition(",")[0])
            axes.set_xlabel("parameters N, 20 tokens for each")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    return [
        Story(
            "law", "A scaling law is a power law above a floor", _draw_form,
            "L(N) = E + A / N^α. The floor E is what no size removes, at best the entropy of the text. Twice the size "
            "divides the gap to the floor by 2^α, whatever the size. Tokens do the same: L(D) = E + B / D^β.",
            "A made law that falls towards its floor; two arrows show the gap at one size and at twice that size.",
            "A made law. Form with a free floor: Henighan et al. 2020; without one: Kaplan et al. 2020.",
        ),
        back_tests(),
        Story(
            "published-laws", "Published laws speak about texts of their own: compare exponents, not losses", at_models,
            "; ".join(f"{source.title}: {source.text}" for source in laws) + ". Band: 90% of the law's mean, where a "
            "covariance is published. GPT-4's size and tokens are a rumour.",
            "Loss against parameters by two published laws, each solid within its runs and dashed beyond, with the "
            "known models.",
            "; ".join(published.laws[name].source for name in JOINT),
        ),
    ]  # fmt: skip


def back_tests() -> Story:
    """Published models predicted from their smaller kin: how the error of honest back-tests looks."""
    results = {
        "Cerebras-GPT, from 5 models": backtests.cerebras()[5],
        "Pythia, N without embeddings": backtests.pythia()["non_embedding"],
        "Pythia, N in all": backtests.pythia()["total"],
    }

    def draw(axes: Axes) -> None:
        for i, (name, r) in enumerate(results.items()):
            colour, marker = plot.look(i)
            low, high = 100 * (r.predicted - r.low) / r.observed, 100 * (r.high - r.predicted) / r.observed
            axes.errorbar(r.span * 1.02 ** (i - 1), 100 * r.error, yerr=np.array([low, high]), fmt=marker,
                          color=colour, capsize=4, label=name)  # fmt: skip
        axes.axhline(0, color=plot.FAINT, linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks([2, 5, 10, 20], ["2x", "5x", "10x", "20x"])
        axes.minorticks_off()
        axes.set_xlabel("how far beyond the largest fitted model")
        axes.set_ylabel("error of the prediction (%)")
        axes.legend()

    worst = {name: 100 * float(r.error[np.argmax(np.abs(r.error))]) for name, r in results.items()}
    words = "; ".join(f"{name} {value:+.1f}%" for name, value in worst.items())
    least, most = (f(abs(value) for value in worst.values()) for f in (min, max))
    return Story(
        "back-tests",
        f"Published families, predicted from their smaller kin: off by {least:.1f}% to {most:.1f}% at worst",
        one_panel(draw),
        f"Published models predicted from their smaller kin, with 90% intervals of a new run. Worst errors: {words}.",
        f"Errors of back-tests against their distance, with intervals; the worst are {words}.",
        "Dey et al. 2023 (Cerebras-GPT); Biderman et al. 2023 (Pythia). A claim that reaches further than these tests "
        "is not covered by them.",
    )  # fmt: skip


def _draw_form(figure: Figure) -> None:
    axes, n = figure.add_subplot(), np.geomspace(1e5, 1e9, 60)
    axes.plot(n, 1.5 + 2.0 * (n / 1e5) ** -0.3, color=plot.look(0)[0], label="loss")
    axes.axhline(1.5, color=plot.look(1)[0], linestyle="--", label="floor E")
    for at in (1e6, 2e6):
        axes.annotate("", (at, 1.5), (at, 1.5 + 2.0 * (at / 1e5) ** -0.3), arrowprops={"arrowstyle": "<->", "lw": 1.5})
    axes.annotate("twice the size: 1/2$^α$ of the gap", (2e6, 1.65), (12, 0), textcoords="offset points", va="center")
    plot.count_axis(axes)
    axes.set(xlabel="parameters N", ylabel="loss (nats per token)", ylim=(1.3, 3.6))
    axes.legend()


def _verdicts() -> Story:
    return Story(
        "", "A verdict, not R-squared, says whether a law may be believed",
        [
            ("verdict", "what it means"),
            ("supported", "the runs bear the prediction, within its interval"),
            ("weak", "a number with a doubt that is named: few runs, a wide interval, a target far away"),
            ("not identifiable", "no prediction: the runs cannot tell the parameters apart there"),
            ("no trend", "no law: the losses do not fall beyond their noise"),
        ],
        "R-squared is near 1 for any smooth fall. The test that counts: hide the largest runs, predict them, look.",
        notes="Explain the four words before the first figure: every later slide uses them.",
    )  # fmt: skip


def _all_exponents(sweeps: Sweeps) -> Iterator[Story]:
    """Every exponent in tables; nothing where there is one or none."""
    rows = [
        (text_of(runs[0]), recipe_name(side.recipe), name.split(" of ")[1],
         plot.NO_PREDICTION if e.value is None else f"{name.split()[0]} = {plot.bracket(e.value, e.low, e.high)}",
         e.note)
        for _, runs in sweeps if not is_rate_study(runs)
        for side in sides(runs) for name, e in side.exponents.items()
    ]  # fmt: skip
    pages = -(-len(rows) // MOST_ROWS) if len(rows) > 1 else 0
    each = -(-len(rows) // max(pages, 1))
    for first in range(0, pages * each, max(each, 1)):
        yield Story("", "All exponents, and whether they may be believed" + (", continued" if first else ""),
                    [("text", "recipe", "law", "exponent, 90% interval", "verdict"), *rows[first : first + each]],
                    "Exponents compare across texts, losses do not.")  # fmt: skip


def _end(sweeps: Sweeps) -> Iterator[Story]:
    if sweeps:
        counts = [r.counts for _, runs in sweeps for r in runs]
        n, d = (max(c[k] for c in counts) for k in ("n_params_non_embedding", "n_tokens"))
        gpt3 = known_models()[0]
        times = [f"{float(f'{ratio:.2g}'):,.0f}" for ratio in (gpt3.n_params / n, gpt3.n_tokens / d)]
        texts = " and ".join(sorted({text_of(runs[0]) for _, runs in sweeps}))
        yield Story(
            "", "What these runs cannot say",
            [
                f"The largest model has {short(n)} parameters: {gpt3.name} is {times[0]} times as large.",
                f"The longest run saw {short(d)} tokens: {gpt3.name} saw {times[1]} times as many.",
                f"The text is {texts}: another one has another floor, and may have other exponents.",
                "Losses in nats per token are of one text and one tokenizer; they compare with no others.",
            ],
            notes="Say this before anybody asks about GPT-4.",
        )  # fmt: skip
    yield Story(
        "", "Try it yourself",
        ["./run_experiments.sh demo: a first law on your own machine, in minutes",
         *(f"python -m scaling_lib summary {name}" for name, _ in sweeps),
         "python -m scaling_lib compare: a quick look against a real sweep"],
        notes="Sources: Kaplan et al. 2020; Henighan et al. 2020; Hoffmann et al. 2022; Besiroglu et al. 2024; "
        "Biderman et al. 2023 (Pythia); Dey et al. 2023 (Cerebras-GPT).",
    )  # fmt: skip

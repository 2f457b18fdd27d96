"""A talk about one sweep or several: theory, V1 against V2, scaling, extrapolation, limits; every number from records.

``save_talk`` draws each sweep's figures for slides and puts them into an editable deck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling_lib.runs import Run
from scaling_lib.show import export, talk_figures
from scaling_lib.show.extrapolation import plot_at_models
from scaling_lib.show.figures import Named
from scaling_lib.show.ladders import short
from scaling_lib.show.published import JOINT, joint_laws, known_models
from scaling_lib.show.sliders.sources import published_source
from scaling_lib.show.slides import Slide, check_pptx, save_slides
from scaling_lib.show.talk_figures import LIMITS, Sweep, words
from scaling_lib.show.versus import GPT3

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THEORY, NEXT = "Theory", "Next"
DECK, TITLE = "talk.pptx", "Neural scaling laws, measured"


def save_talk(
    sweeps: Sequence[tuple[str, Sequence[Run]]], out: Path, rule: Callable[[int], float] | None = None
) -> list[Path]:
    """Draw every sweep's figures into ``out`` and write ``out/talk.pptx``; returns the paths, the deck last.

    ``sweeps``: name and records of each; with several, the figures of each go to a folder of its name. ``rule`` as in
    ``figures.main_figure``. Raises ``InputError`` where python-pptx is absent or the folder cannot be written.
    """
    check_pptx()
    paths: list[Path] = []
    found = []
    for name, runs in sweeps:
        folder = out if len(sweeps) == 1 else out / name.replace("/", "-").strip(".-")
        written = export.save_set(runs, folder, ["png"], "slides", rule)
        paths += written
        found.append(Sweep(name, tuple(runs), {p.stem: p for p in written if p.suffix == ".png"}))
    laws = _published_figure(out)
    deck = save_slides(tell(found, laws), out / DECK, TITLE)
    return [*paths, laws, deck]


def _published_figure(out: Path) -> Path:
    named = Named(
        "published-laws",
        _published_panels,
        "Published laws at 20 tokens per parameter, each in its own panel, on its own text and tokenizer; the band "
        "holds 90%, where a covariance is published. Markers: known models at their own number of tokens.",
        "Two panels, each a falling curve of loss against parameters, with markers at GPT-3, Llama 3 and GPT-4 as "
        "rumoured.",
        tall=True,
    )
    path = export.save_named(named, out, ["png"], "slides")[0]
    path.with_suffix(".txt").write_text(f"{named.caption}\n\nDescription: {named.alt}\n", encoding="utf-8")
    return path


def _published_panels(figure: Figure) -> None:
    for place, name in enumerate(JOINT, 1):
        source = published_source(name)
        axes = plot_at_models(source, figure.add_subplot(1, len(JOINT), place))
        axes.set_title(f"{source.title}\n{source.text}", fontsize="small")  # two panels on a slide: short lines
        axes.set_xlabel(f"parameters N, {source.counting}")


def tell(sweeps: Sequence[Sweep], laws: Path) -> list[Slide]:
    """The slides of the talk, cover first."""
    story = [_cover(sweeps), *_theory(laws)]
    for part in (talk_figures.recipes, talk_figures.scaling, talk_figures.far):
        story += [slide for sweep in sweeps for slide in part(sweep)]
    tested = next((s for s in sweeps if "back-tests" in s.pictures), None)
    story += [talk_figures.back_tests(tested)] if tested else []
    story += [slide for sweep in sweeps for slide in talk_figures.left_over(sweep)]
    return [*story, *talk_figures.exponents(sweeps), _limits(sweeps), _again(sweeps)]


# ---- theory ----------------------------------------------------------------------


def _cover(sweeps: Sequence[Sweep]) -> Slide:
    hours = sum(r.seconds for s in sweeps for r in s.runs) / 3600
    count = sum(len(s.runs) for s in sweeps)
    points = (
        f"{count} small language models, {hours:.1f} hours of training, and what may be concluded from them",
        *(s.source for s in sweeps),
    )
    names = ", ".join(s.name for s in sweeps)
    notes = f"Every number in this deck comes from the records of {names} or from a published source that is named."
    return Slide("", TITLE, points, notes=notes)


def _theory(laws: Path) -> Iterator[Slide]:
    yield Slide(
        THEORY,
        "A scaling law is a power law above a floor",
        (
            "E: the loss that no size removes; at best the entropy of the text",
            "A: how far a small model lies above it; α: how fast size closes the gap",
            "Twice the size divides the gap to the floor by 2^α, whatever the size",
            "The same form holds for tokens: L(D) = E + B / D^β",
        ),
        "L(N) = E + A / N^α",
        notes="N counts parameters without embeddings, D training tokens, losses are in nats per token. Form with a "
        "free floor: Henighan et al. 2020; without one: Kaplan et al. 2020.",
        source="Kaplan et al. 2020; Henighan et al. 2020",
    )
    yield Slide(
        THEORY,
        "With both in one law, a budget has a best split",
        (
            "Training costs about C = 6 N D FLOP",
            "On a line of equal cost, a small model starves for size, a large one for tokens",
            "The best size grows as a power of the budget, with exponent β / (α + β)",
            "The exponents must be measured apart: if D / N is the same in every run, nothing tells them apart",
        ),
        "L(N, D) = E + A / N^α + B / D^β",
        notes="Hoffmann et al. 2022, equations 2 and 4. The last point is why a sweep is a grid of sizes and lengths.",
        source="Hoffmann et al. 2022",
    )
    yield _published(laws)
    yield Slide(
        THEORY,
        "A verdict, not R-squared, says whether a law may be believed",
        (
            "R-squared is near 1 for any smooth fall; it does not see whether parameters can be told apart",
            "A fit is judged by its noise, by what its runs can tell apart, and by how far the target lies beyond them",
            "The test that counts: hide the largest runs, predict them, look",
        ),
        table=(
            ("verdict", "what it means"),
            ("supported", "the runs bear the prediction, within its interval"),
            ("weak", "a number with a doubt that is named: few runs, a wide interval, a target far off"),
            ("not identifiable", "no number: the runs cannot tell the parameters apart there"),
            ("no trend", "no law: the losses do not fall beyond their noise"),
        ),
        notes="Explain the four words before the first figure; every later slide uses them.",
    )


def _published(laws: Path) -> Slide:
    points = []
    for law in joint_laws():
        model = known_models()[0]
        text = f"{law.title}: {model.name} at {law.predict(model.n_params, model.n_tokens):.2f}"
        if law.cov is not None:
            low, high = law.interval(model.n_params, model.n_tokens)
            text += f" [{low:.2f}, {high:.2f}]"
        points.append(text + f" nats, on {law.corpus}")
    caption, alt = words(laws)
    return Slide(
        THEORY,
        "Published laws speak about texts of their own: compare exponents, not losses",
        (*points, "GPT-4's size and tokens are a rumour"),
        "",
        laws,
        alt,
        caption,
        notes=f"Losses of two texts or tokenizers do not compare in nats per token.\n\nCaption: {caption}\n\nFor who "
        f"cannot see the figure: {alt}",
        source="; ".join(law.source for law in joint_laws()),
    )


# ---- limits ------------------------------------------------------------------------


def _limits(sweeps: Sequence[Sweep]) -> Slide:
    counts = [r.counts for s in sweeps for r in s.runs]
    n, d = (max(c[k] for c in counts) for k in ("n_params_non_embedding", "n_tokens"))
    gpt3 = known_models()[0]
    texts = sorted({str(r.corpus["name"]) for s in sweeps for r in s.runs})
    return Slide(
        LIMITS,
        "What these runs cannot say",
        (
            f"The largest model has {short(n)} parameters: {gpt3.name} is {_times(GPT3 / n)} times as large",
            f"The longest run saw {short(d)} tokens: {gpt3.name} saw {_times(gpt3.n_tokens / d)} times as many",
            f"The text is {' and '.join(texts)}: another one has another floor, and may have other exponents",
            "Losses are of this text and this tokenizer; in nats per token they compare with no others",
            "An interval holds for the form that was fitted: another form that fits as well may go elsewhere",
        ),
        notes="Say this before anybody asks about GPT-4.",
        source="; ".join(s.source for s in sweeps),
    )


def _times(ratio: float) -> str:
    return f"{float(f'{ratio:.2g}'):,.0f}"


def _again(sweeps: Sequence[Sweep]) -> Slide:
    return Slide(
        NEXT,
        "Try it yourself",
        (
            "./run_experiments.sh demo: a first law on your own machine, in minutes",
            *(f"python -m scaling_lib summary {s.name}" for s in sweeps),
            *(f"python -m scaling_lib predict {s.name} --target N=1e7" for s in sweeps[-1:] if s.ladders["N"]),
            "python -m scaling_lib compare: a quick look against a real sweep",
        ),
        notes="Sources: Kaplan et al. 2020; Henighan et al. 2020; Hoffmann et al. 2022; Besiroglu et al. 2024; "
        "Biderman et al. 2023 (Pythia); Dey et al. 2023 (Cerebras-GPT).",
    )

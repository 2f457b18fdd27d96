"""Build the page: laws as JSON, a still picture for readers without scripts, and the parts put into one file.

A published law is its closed form, with the covariance where there is one. A pooled fit has no closed form: its
median, its 90% intervals and its heaviest forms are tabled on a grid of log N and log D that ends where the verdict
refuses, and the page draws cubics through them. Verdicts follow from those by the rules of `scaling_lib.fit.verdict`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from scaling_lib import __version__
from scaling_lib.errors import InputError
from scaling_lib.files import write_atomically
from scaling_lib.fit import published, verdict
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.pool import HEAVY
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run
from scaling_lib.show.extrapolation import known_models, plot_at_models
from scaling_lib.show.grids import find_grids, plot_grid
from scaling_lib.show.ladders import find_ladders
from scaling_lib.show.panels import plot_fit
from scaling_lib.show.sliders.sources import published_source
from scaling_lib.show.story import Story, one_panel

MODELS = ("GPT-3 175B", "Chinchilla", "Llama 3 405B", "GPT-4 (rumour)")
TOP = {"N": 13.5, "D": 14.5}  # log10: some ten times the largest that is spoken of
STEPS = {1: 0.05, 2: 0.1}  # decades between a table's points, by the number of variables
UNIT = 1e5  # logarithms of losses are tabled as whole numbers of 1/UNIT
LIMITS = {
    "far": verdict.FAR_DECADES, "wide": verdict.WIDE, "hopeless": verdict.HOPELESS, "agree": verdict.AGREE,
    "slack": verdict.SLACK,
}  # fmt: skip
Json = dict[str, Any]


def save_page(text: str, path: Path) -> Path:
    """Write a page, whole or not at all; returns its path."""
    write_atomically(path, text.encode())
    return path


def published_page() -> str:
    """The page of the published laws of N and D, and of the families whose losses come with this package."""
    names = [n for n, law in published.laws.items() if law.law.variables == ("N", "D")]
    names.sort(key=lambda n: n != "chinchilla-epoch")  # the one with a covariance first
    laws, hands = [_published(name) for name in names], []
    for name, table, counting, held in (
        ("Cerebras-GPT", published.cerebras_gpt(), "with embeddings", "20 tokens for each parameter"),
        ("Pythia", published.pythia(), "without embeddings", "300B tokens each"),
    ):
        assert table.n_params is not None
        fit = fit_power_law(table.n_params, table.loss, labels=table.labels)
        title = f"{name}: L(N), {fit.n_points} runs, fitted here"
        text = "Losses on The Pile, nats per token of the models' own tokenizer"
        laws.append(_fitted(name.lower(), title, text, fit, counting=counting, held=held))
        hands.append(_by_hand(name.lower(), f"{name}, {fit.n_points} runs", fit, f"parameters N, {counting}"))
    still = Story(  # to where 20 tokens per parameter are too far from the runs
        "", "", one_panel(lambda axes: plot_at_models(published_source(names[0]), axes).set_xlim(right=2e12)),
        f"{laws[0]['title']}, at 20 tokens per parameter, with its 90% interval.",
        "Loss against parameters by a published law, solid within its runs and dashed beyond, with the known models.",
    )  # fmt: skip
    about = "What published laws say about known models, how far those lie from the laws' runs, and what to believe."
    return _page("Published scaling laws", about, laws, hands, still)


def runs_page(runs: Sequence[Run], title: str) -> str:
    """The page of a folder of records: its joint laws and its ladders.

    Raises InputError when the runs bear no law, or may not be pooled (see `find_ladders`).
    """
    grids = find_grids(runs)
    ladders = [x for x in find_ladders(runs) if x.fit is not None]
    way = [x.recipe for x in ladders]
    ladders.sort(key=lambda x: way[::-1].index(x.recipe))  # the last recipe on the way from V1 to V2 first
    if not ladders:
        raise InputError(f"{title}: no law for a page: it wants three or more finished runs that differ in N or in D")
    corpus = f"{runs[0].corpus['name']}, vocabulary {runs[0].config.model.vocab_size:,}"
    text, counting = f"Losses on {corpus}, nats per token", "without embeddings"
    laws = [
        _fitted(f"{g.recipe}-joint", f"{g.recipe.upper()}: L(N, D), {len(g.runs)} runs", text, g.fit, counting=counting)
        for g in grids
    ]
    hands = []
    for x in ladders:
        assert x.fit is not None
        key, name = f"{x.recipe}-{x.variable}", f"{x.recipe.upper()}: L({x.variable}), {len(x.runs)} runs"
        laws.append(_fitted(key, name, text, x.fit, counting=counting, held=x.held))
        axis = f"parameters N, {counting}" if x.variable == "N" else "training tokens D"
        hands.append(_by_hand(key, f"{name}, {x.held}", x.fit, axis))
    still = Story(
        "", "", one_panel(lambda axes: plot_fit(ladders[0], axes)), f"{laws[0]['title']}.",
        "Losses and the law fitted to them.",
    )  # fmt: skip
    if grids:
        still = Story(
            "", "", one_panel(lambda axes: plot_grid(grids[0], "N", axes)),
            f"{len(grids[0].runs)} runs and their joint law: {grids[0].fit.verdict().level}.",
            "Loss against parameters, a line of the joint law for each number of tokens, over the runs.",
        )  # fmt: skip
    about = f"{len(runs)} runs on {corpus}: the laws fitted to them, how far they reach, and where they say nothing."
    return _page(f"Scaling laws of {title}", about, laws, hands, still)


# ---- laws as JSON


def _published(name: str) -> Json:
    law = published.laws[name]
    doubts = [f"a published law: its runs are not here to judge it by; losses are of {law.corpus} alone"]
    if law.cov is None:
        doubts.append("it was published without a covariance: no interval can be given")
    values = ", ".join(f"{k} = {v:.4g}" for k, v in law.params.items())
    about = f"{law.law.formula}; {values}. Source: {law.source}." + (f" Note: {law.note}." if law.note else "")
    ranges = {v: law.fit_range[v] for v in "ND"}
    ends = {v: _ends(low, TOP[v]) for v, (low, _) in ranges.items()}
    corners = [float(law.predict(ends["N"][i], ends["D"][i])) for i in (0, 1)]
    return {
        "key": name, "title": law.title, "published": True, "vars": ["N", "D"], "held": "",
        "counting": published_source(name).counting,
        "text": f"Losses on {law.corpus}, nats per token of {law.tokenizer}",
        "about": about, "range": ranges, "ends": ends, "farEnds": ends, "canZoom": False,
        "lossEnds": [0.9 * corners[1], 1.03 * corners[0]],
        "data": {"N": [], "D": []}, "loss": [], "form": _form(law), "grid": None, "hasBand": law.cov is not None,
        "flat": "", "refusals": [], "doubts": doubts, "tried": None,
    }  # fmt: skip


def _fitted(key: str, title: str, text: str, fit: FitResult, *, counting: str, held: str = "") -> Json:
    names, stands, loss = fit.law.variables, fit.standing, fit.data["loss"]
    reach = {v: max(verdict.FAR_DECADES, float(np.log10(high / low))) for v, (low, high) in fit.fit_range.items()}
    speaks = not (stands.flat or stands.refusals)
    limits = [float(loss.min()), float(loss.max())]
    if speaks:  # the law at the ends of the sliders, as far as it is believed
        corners = [[fit.fit_range[v][i] * 10 ** (reach[v] if i else -0.5) for v in names] for i in (0, 1)]
        limits = [min(limits[0], fit.predict(*corners[1])), max(limits[1], fit.predict(*corners[0]))]
    spare = 0.12 * (limits[1] - limits[0]) + 0.01
    about = f"{fit.law.formula}: " + ", ".join(f"{k} = {v:.4g}" for k, v in fit.params.items()) + "."
    if speaks and fit.pool is not None:
        forms = ", ".join(f"{m.name.replace('_', ' ')} {m.weight:.0%}" for m in fit.pool.members)
        about += f" What is drawn is a pool of forms, weighed by what they predict of the largest runs: {forms}."
    near = {v: _ends(low, np.log10(high) + reach[v] + 0.4) for v, (low, high) in fit.fit_range.items()}
    return {
        "key": key, "title": title, "published": False, "vars": list(names), "counting": counting,
        "held": held, "text": text, "about": about, "range": dict(fit.fit_range), "ends": near,
        "farEnds": {v: _ends(low, TOP[v]) for v, (low, _) in fit.fit_range.items()}, "canZoom": True,
        "lossEnds": [max(0.0, limits[0] - spare), limits[1] + spare],
        "data": {v: fit.data[v].tolist() for v in names}, "loss": loss.tolist(),
        "form": _form(fit) if len(names) == 2 else None, "grid": _grid(fit, reach) if speaks else None,
        "hasBand": speaks, "flat": stands.flat, "refusals": list(stands.refusals), "doubts": list(stands.doubts),
        "tried": fit.pool.tried if speaks and fit.pool is not None and fit.pool.best.cuts else None,
        "most": float(np.max(np.sum([np.log(fit.data[v]) for v in names], axis=0))),
    }  # fmt: skip


def _ends(lowest: float, top: float) -> tuple[float, float]:
    """Ends of a slider: half a decade below the smallest run, and 10^top; whole twentieths of a decade."""
    low, high = np.floor(20 * (np.log10(lowest) - 0.5)) / 20, np.ceil(20 * top) / 20
    return float(f"{10**low:.4g}"), float(f"{10**high:.4g}")


def _form(law: FitResult | PublishedLaw) -> Json:
    """The closed form that is named. The covariance is that of a published law's working parameters."""
    cov = law.cov.tolist() if isinstance(law, PublishedLaw) and law.cov is not None else None
    return {"name": law.law.name, "values": law.values.tolist(), "cov": cov}


def _grid(fit: FitResult, reach: Mapping[str, float]) -> Json:
    """Logarithms of the pool's losses, flat in the order of the variables, where the verdict may speak."""
    axes = []
    for v in fit.law.variables:
        low, high = (float(np.log10(x)) for x in fit.fit_range[v])
        first, last = low - reach[v] - 1e-6, high + reach[v] + 1e-6
        axes.append(np.linspace(first, last, int(np.ceil((last - first) / STEPS[len(fit.law.variables)])) + 1))
    x = tuple(10 ** m.ravel() for m in np.meshgrid(*axes, indexing="ij"))
    tables = {"mid": fit.predict(*x)}
    tables["low"], tables["high"] = fit.interval(*x)
    tables["newLow"], tables["newHigh"] = fit.interval(*x, kind="new_run")
    assert fit.pool is not None  # without a degree of freedom the verdict refuses everywhere
    heavy = [m.name for m in fit.pool.members if m.weight >= HEAVY]
    forms = {name: loss for name, loss in fit.pool.by_form(x).items() if name in heavy}
    return {
        "start": [float(a[0]) for a in axes], "step": [float(a[1] - a[0]) for a in axes],
        "shape": [len(a) for a in axes], "unit": UNIT, "tables": {name: _whole(loss) for name, loss in tables.items()},
        "forms": [{"name": name, "table": _whole(forms[name])} for name in heavy],
    }  # fmt: skip


def _whole(loss: np.ndarray) -> list[int]:
    """Whole numbers of 1/UNIT; an end that is 0 or infinite becomes so small or large that the verdict refuses it."""
    logs = np.log(np.clip(loss, 1e-4, 1e4))
    return [int(v) for v in np.round(UNIT * logs)]


def _by_hand(key: str, title: str, fit: FitResult, name: str) -> Json:
    """Runs of one variable, the ends of the three sliders, and the best fit, which lies within them."""
    v = fit.law.variables[0]
    x, loss = fit.data[v], fit.data["loss"]
    middle = float(np.exp(np.log(x).mean()))
    e, a, power = (float(p) for p in fit.values)
    height = a / middle**power
    return {
        "key": key, "title": title, "variable": v, "name": name, "x": x.tolist(), "loss": loss.tolist(),
        "middle": middle, "best": {"E": e, "h": height, "a": power}, "objective": fit.cost,
        "ends": {
            "E": [0.0, float(np.ceil(200 * 1.02 * max(loss.min(), e)) / 200)],
            "h": [min(10**-2.5, height / 3), max(10.0, height * 3)], "a": [0.001, 3.0],
        },
        "verdict": f"Verdict of the best fit within its runs: {fit.verdict()}.",
    }  # fmt: skip


# ---- the file


def _page(title: str, about: str, laws: list[Json], hands: list[Json], still: Story) -> str:
    truth = published.laws["chinchilla-epoch"]
    data = {
        "laws": laws, "hands": hands, "limits": LIMITS, "truth": {"title": truth.title, "form": _form(truth)},
        "models": [{"name": m.name, "N": m.n_params, "D": m.n_tokens} for m in known_models(MODELS)],
    }  # fmt: skip
    script, style = _part("laws.js") + _part("page.js"), _part("page.css")
    policy = (
        f"default-src 'none'; script-src {_sha256(script)}; style-src {_sha256(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    filled = {
        "policy": policy, "script": script, "style": style, "picture": _picture(still),
        # As JSON knows it, and so that no text can end the element it stands in.
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    }  # fmt: skip
    texts = {"title": title, "about": about, "alt": still.alt, "caption": still.caption}
    texts["footer"] = f"Made with scaling_lib {__version__}. Nothing is loaded from elsewhere, and nothing is sent."
    filled |= {name: html.escape(text) for name, text in texts.items()}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], _part("page.html"))


def _part(name: str) -> str:
    return resources.files("scaling_lib.show.page").joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    """The source that a Content-Security-Policy names an inline script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _picture(story: Story) -> str:
    """A PNG as a data URL; no pyplot, so that nothing of the caller's changes."""
    import matplotlib.style
    from matplotlib.figure import Figure

    assert callable(story.figure)
    buffer = io.BytesIO()
    with matplotlib.style.context("scaling_lib.show.styles.blog"):
        figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
        story.figure(figure)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

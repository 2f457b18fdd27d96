"""How far may a law be believed? Forms that fit alike and part beyond the runs; how an error grows with the distance.

Chinchilla's runs as Epoch read them off the paper are not part of this package (``published.epoch_runs`` fetches
them). What this package's defaults make of them is, in ``records/``: `epoch_forms` is `form_spread` of
``compare_laws(..., target=(1.8e12, 13e12), objective="huber")``, and `epoch_span` is ``error_by_span(table,
law=...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.backtests import SpanCurve
from scaling_lib.fit.coverage import Coverage
from scaling_lib.fit.laws import get_law
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.scoreboard import ALIKE, Comparison
from scaling_lib.show.plot import count_axis, new_axes
from scaling_lib.show.records import read_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pair = tuple[float, float]
HELD, MISSED, GREY = "#0072B2", "#D55E00", "#888888"
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#D55E00", "#56B4E9", "#000000")


@dataclass(frozen=True)
class FormAt:
    """A form's record on hidden runs, and what it says at the target.

    name : with what is held, such as "chinchilla, E = 0". law : the form's name, "" for a baseline. params : (k,).
    held_out, in_sample : mean absolute relative error on hidden runs; root mean squared log residual on all.
    prediction, low, high : at the target, with the 90% interval of the law's mean (nan for a baseline).
    alike : whether it did about as well on the hidden runs as the best law.
    bend : the chance, in noise alone, of residuals that bend as much as its own (nan for a baseline).
    """

    name: str
    law: str
    params: tuple[float, ...]
    held_out: float
    in_sample: float
    prediction: float
    low: float
    high: float
    alike: bool
    bend: float

    def predict(self, n_params: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
        """Return the losses of a law of N and D; raises InputError for a baseline."""
        if not self.law:
            raise InputError(f"{self.name!r} is a baseline, no law: it predicts at the target only")
        return get_law(self.law).value(np.array(self.params), n_params, n_tokens)


@dataclass(frozen=True)
class FormSpread:
    """Forms of L(N, D) fitted to the same runs, best on hidden runs first.

    target : (N, D). seen_n, seen_d, seen_c : least and largest N, D and C = 6 N D of the runs. source : which runs.
    """

    forms: tuple[FormAt, ...]
    target: Pair
    seen_n: Pair
    seen_d: Pair
    seen_c: Pair
    source: str

    @property
    def alike(self) -> tuple[FormAt, ...]:
        """The forms that predicted the hidden runs about as well as the best law."""
        return tuple(f for f in self.forms if f.alike)

    @property
    def spread(self) -> Pair:
        """Least and largest prediction at the target among those."""
        at = [f.prediction for f in self.alike]
        return min(at), max(at)

    def table(self) -> str:
        """A line a form: its record, and its prediction with the 90% interval."""
        lines = [f"{'form':32} {'held out':>8} {'in sample':>9} {'bend':>6}   at the target"]
        for f in self.forms:
            interval = f" [{f.low:.2f}, {f.high:.2f}]" if f.law else ""
            mark = "  alike" if f.alike else ""
            bend = f"{f.bend:.0e}" if f.law else "-"
            lines.append(
                f"{f.name:32} {100 * f.held_out:7.2f}% {100 * f.in_sample:8.2f}% {bend:>6}   "
                f"{f.prediction:.2f}{interval}{mark}"
            )
        return "\n".join(lines)


def form_spread(compared: Comparison, source: str = "runs") -> FormSpread:
    """Gather what a comparison of joint laws says at its target, with intervals.

    Raises
    ------
    InputError : the comparison has no target, or its laws are not of N and D.
    """
    fits = [s.fit for s in compared.scores if s.fit is not None]
    if compared.target is None or len(compared.target) != 2 or not fits:
        raise InputError("the spread of forms needs a comparison of joint laws at a target: compare_laws(..., target=)")
    best = min(s.held_out for s in compared.scores if s.fit is not None)
    limit = max(ALIKE * best, best + 0.001)
    forms = []
    for s in compared.scores:
        if s.prediction is None:
            continue
        low, high = (np.nan, np.nan) if s.fit is None else s.fit.interval(*compared.target)
        law, params = ("", ()) if s.fit is None else (s.fit.law.name, tuple(s.fit.values.tolist()))
        alike = s.fit is not None and s.held_out <= limit
        bend = np.nan if s.fit is None else s.fit.misfit.chance
        forms.append(FormAt(s.name, law, params, s.held_out, s.in_sample, s.prediction, low, high, alike, bend))
    seen, flops = fits[0].fit_range, 6.0 * fits[0].data["N"] * fits[0].data["D"]
    return FormSpread(
        forms=tuple(forms),
        target=(compared.target[0], compared.target[1]),
        seen_n=seen["N"],
        seen_d=seen["D"],
        seen_c=(float(flops.min()), float(flops.max())),
        source=source,
    )


def epoch_forms() -> FormSpread:
    """Seven forms and two baselines on Chinchilla's 240 runs as Epoch read them, at GPT-4's rumoured N and D."""
    rows = read_records("epoch_forms")
    forms = tuple(
        FormAt(
            name=r["form"],
            law=r["law"],
            params=tuple(float(v) for v in r["params"].split()),
            held_out=float(r["held_out"]),
            in_sample=float(r["in_sample"]),
            prediction=float(r["prediction"]),
            low=float(r["low"]),
            high=float(r["high"]),
            alike=r["alike"] == "yes",
            bend=float(r["bend"]),
        )
        for r in rows
    )
    target, seen_n, seen_d, seen_c = (
        (float(rows[0][a]), float(rows[0][b]))
        for a, b in (("target_n", "target_d"), ("n_low", "n_high"), ("d_low", "d_high"), ("c_low", "c_high"))
    )
    return FormSpread(forms, target, seen_n, seen_d, seen_c, "Chinchilla's 240 runs by Epoch")


def epoch_span(law: str = "chinchilla") -> SpanCurve:
    """Error against span on Chinchilla's 240 runs, five cuts: the bins alone, without the single predictions.

    law : "chinchilla", or "over_training", which did best on hidden runs. Raises InputError for another.
    """
    rows = [r for r in read_records("epoch_span") if r["law"] == law]
    if not rows:
        raise InputError(f"no spans are recorded for law {law!r}: choose 'chinchilla' or 'over_training'")
    names = ("bin_low", "bin_high", "bin_mean_abs", "bin_max_abs", "bin_bias", "bin_line", "bin_nearest", "bin_covered")
    bins = {name: np.array([float(r[name]) for r in rows]) for name in names}
    none = np.empty(0)
    return SpanCurve(
        cut=none,
        span=none,
        error=none,
        line_error=none,
        nearest_error=none,
        covered=np.empty(0, dtype=bool),
        bin_count=np.array([int(r["bin_count"]) for r in rows]),
        results={},
        **bins,
    )


def plot_forms_at(spread: FormSpread, axes: Axes | None = None) -> Axes:
    """Draw each form's prediction at the target with its 90% interval; a band over the forms that did alike."""
    axes = axes or new_axes()
    forms = [f for f in spread.forms if f.law]
    low, high = spread.spread
    axes.axvspan(low, high, color=HELD, alpha=0.15, linewidth=0, label=f"forms alike: {low:.2f} to {high:.2f}")
    for y, f in enumerate(forms):
        colour = HELD if f.alike else GREY
        bar = [[f.prediction - f.low], [f.high - f.prediction]]
        axes.errorbar(
            [f.prediction], [y], xerr=bar, fmt="o" if f.alike else "s", color=colour, capsize=3, linewidth=1.5
        )
    axes.set_yticks(range(len(forms)), [f"{f.name}\n{100 * f.held_out:.2f}% off, hidden runs" for f in forms])
    axes.tick_params(axis="y", labelsize="small")
    axes.set_ylim(len(forms) - 0.4, -0.6)
    axes.set_xlabel("predicted loss at the target (nats per token)")
    axes.legend(loc="upper left")
    return axes


def plot_parting(spread: FormSpread, reference: PublishedLaw | FitResult, axes: Axes | None = None) -> Axes:
    """Draw the forms along the target's D / N, as differences from the reference law, with the reference's band.

    reference : a law of N and D with an interval; its own form lies on zero.
    """
    axes = axes or new_axes()
    n_target, d_target = spread.target
    n = np.geomspace(spread.seen_n[0], 2 * n_target, 80)
    d = n * (d_target / n_target)
    base = reference.predict(n, d)
    low, high = reference.interval(n, d)
    axes.axvspan(*spread.seen_n, color="#000000", alpha=0.06, linewidth=0, label="sizes of the runs")
    axes.fill_between(n, *(100 * (v / base - 1) for v in (low, high)), color=HELD, alpha=0.2, linewidth=0,
                      label="90% interval of the form at zero")  # fmt: skip
    laws = [f for f in spread.forms if f.law]
    # The alike forms first: they get the first colours, and full lines.
    laws.sort(key=lambda f: not f.alike)
    for f, colour in zip(laws, COLOURS, strict=False):
        style = "-" if f.alike else "--"
        axes.plot(n, 100 * (f.predict(n, d) / base - 1), style, color=colour, label=f.name)
    mark_spans(axes, [n_target], ["target"], height=0.8)
    count_axis(axes)
    axes.set_xlabel(f"parameters N, at {d_target / n_target:.3g} tokens per parameter")
    axes.set_ylabel("difference in loss (%)")
    axes.legend(fontsize="small")
    return axes


def plot_span(curve: SpanCurve, label: str, colour: str = HELD, marker: str = "o", axes: Axes | None = None) -> Axes:
    """Draw the absolute held-out error against span: single predictions where the curve has them, else bins.

    A filled mark: the interval of a new run held; an open one: it did not. Of bins the mean is drawn, with a line up to
    the largest error and the number of predictions.
    """
    axes = axes or new_axes()
    if curve.span.size:
        for held, face in ((True, colour), (False, "white")):
            which = curve.covered == held
            axes.plot(
                curve.span[which], 100 * np.abs(curve.error[which]), marker, color=colour, markerfacecolor=face,
                label=label if held else None,
            )  # fmt: skip
    else:
        middle = np.sqrt(curve.bin_low * curve.bin_high)
        axes.vlines(middle, 100 * curve.bin_mean_abs, 100 * curve.bin_max_abs, color=colour, linewidth=1, alpha=0.6)
        axes.plot(middle, 100 * curve.bin_mean_abs, marker + "-", color=colour, label=label)
        for x, mean, count in zip(middle, 100 * curve.bin_mean_abs, curve.bin_count, strict=True):
            axes.annotate(f"{count}", (x, mean), (4, -9), textcoords="offset points", fontsize="x-small", color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}x")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("how far beyond: compute of the hidden run over that of the largest fitted run")
    axes.set_ylabel("absolute error (% of the loss)")
    axes.legend()
    return axes


def mark_spans(axes: Axes, spans: Sequence[float], names: Sequence[str], height: float = 0.98) -> Axes:
    """Mark how far beyond the runs some models lie; names end at ``height``, a share of the panel's."""
    for span, name in zip(spans, names, strict=True):
        axes.axvline(span, color=GREY, linewidth=0.9, linestyle=":")
        axes.text(span, height, f"{name} ", rotation=90, ha="right", va="top", fontsize="small", color="#555555",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    return axes


def plot_intervals(found: Coverage, first: int = 60, axes: Axes | None = None) -> Axes:
    """Draw the first intervals of E, one beside the other, over the true E; those that miss it stand out."""
    axes = axes or new_axes()
    low, high, fitted = (v[:first] for v in (found.floor_low, found.floor_high, found.floor_fit))
    held = (low <= found.floor) & (found.floor <= high)
    at = np.arange(1, len(low) + 1)
    for which, colour, marker, word in ((held, HELD, "o", "holds"), (~held, MISSED, "s", "misses")):
        if which.any():
            bar = np.array([fitted[which] - low[which], high[which] - fitted[which]])
            axes.errorbar(at[which], fitted[which], yerr=np.maximum(bar, 0.0), fmt=marker, color=colour, markersize=4,
                          linewidth=1.2, label=f"{word} the truth: {which.sum()}")  # fmt: skip
    axes.axhline(found.floor, color="black", linewidth=1, label=f"true E = {found.floor:g}")
    axes.set_xlabel("simulated sweep")
    axes.set_ylabel(f"E and its {found.level:.0%} interval (nats per token)")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.12 * (top - bottom))  # room for the legend
    axes.legend(ncols=3, loc="upper center")
    return axes

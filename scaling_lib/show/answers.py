"""A loss at a target, with its intervals and a verdict; or a refusal, which is an answer too."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.report import unanswered
from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import short
from scaling_lib.show.sources import Laws, SourceLaw, Target

UNITS = {"N": "parameters", "D": "tokens", "C": "FLOP", "D/N": "tokens per parameter"}
VAGUE = 10.0  # an optimum whose interval spans this factor hardly says how to spend a budget


@dataclass(frozen=True)
class Answer:
    """A prediction, or a refusal whose numbers are None.

    at : N, D, C of the target, with the best split where the target is a budget alone. law : whose answer it is.
    mean_interval, new_run_interval : (low, high) in the source's loss unit; inf where the data set no limit, None
        where none can be had.
    optimal : of a budget alone: N, D, tokens per parameter, and intervals of N and D where known.
    """

    target: str
    at: dict[str, float]
    law: str
    verdict: str
    refused: bool
    reasons: tuple[str, ...]
    loss: float | None = None
    mean_interval: tuple[float, float] | None = None
    new_run_interval: tuple[float, float] | None = None
    optimal: dict[str, Any] | None = None
    note: str = ""


def ask(source: Laws, target: Target, level: float = 0.9) -> list[Answer]:
    """What the source's laws say at the target: the joint law alone where it can answer, else all that can."""
    able = [x for x in source.laws if _can_answer(x, target)]
    joint = [x for x in able if len(x.variables) > 1]
    if not able:
        return [_refusal(target, "", "no law", _why_none(source, target))]
    return [_answer(x, target, level) for x in joint or able]


def _can_answer(law: SourceLaw, target: Target) -> bool:
    if law.variables == ("N", "D"):
        return {"N", "D"} <= set(target.at) or set(target.at) == {"C"}
    return set(law.variables) - {"U"} <= set(target.at)


def _why_none(source: Laws, target: Target) -> str:
    if not source.laws:
        return "fewer than three sizes, or lengths of one size, have finished"
    has = " and ".join(dict.fromkeys(f"L({', '.join(x.variables)})" for x in source.laws))
    if set(target.at) == {"C"}:
        return (
            f"the best split of a budget takes a law of N and D together, and here is {has}; --mode laptop trains one"
        )
    return f"the target gives {', '.join(target.at)}, and here is {has}"


def _refusal(target: Target, law: str, verdict: str, *reasons: str) -> Answer:
    return Answer(target.name, target.at, law, verdict, True, reasons, note=target.note)


def _answer(law: SourceLaw, target: Target, level: float) -> Answer:
    fit, at, optimal = law.fit, dict(target.at), None
    if fit is None:
        return _refusal(target, law.what, "no fit", law.why_not)
    if set(at) == {"C"} and law.variables == ("N", "D"):
        at, optimal = _split(fit, at["C"], level)
    if "U" in law.variables:
        at["U"] = at["D"]  # no token twice
    x = tuple(at[v] for v in law.variables)
    found = Answer(target.name, at, law.what, "published", False, (), optimal=optimal, note=target.note)
    elsewhere = _elsewhere(law, at)
    if isinstance(fit, PublishedLaw):
        if far := fit.beyond(at):
            return _refusal(target, law.what, "out of range", far)
        if elsewhere and target.exact:
            return _refusal(target, law.what, "no law", elsewhere)
        reasons = [f"a published law: its runs are not here to judge it by; losses are of {fit.corpus} alone"]
        if "U" in law.variables:
            reasons.append("every token is taken as seen once (U = D)")
        reasons += [elsewhere.partition(":")[0]] if elsewhere else []
        mean = None if fit.cov is None else fit.interval(*x, level=level)
        return replace(found, reasons=tuple(reasons), loss=fit.predict(*x), mean_interval=mean)
    verdict = fit.verdict(*x)
    if verdict.refused:
        return _refusal(target, law.what, verdict.level, *verdict.reasons)
    if elsewhere:
        return _refusal(target, law.what, "no law", elsewhere)
    if optimal and optimal["at_edge"]:
        reason = "the best split lies at the end of what was searched: the law has no optimum"
        return _refusal(target, law.what, "not identifiable", reason)
    found = replace(
        found, verdict=verdict.level, reasons=verdict.reasons, loss=fit.predict(*x),
        mean_interval=fit.interval(*x, level=level), new_run_interval=fit.interval(*x, level=level, kind="new_run"),
    )  # fmt: skip
    if optimal is None:
        return found
    low, high = optimal["n_interval"] or (0.0, math.inf)
    if high <= VAGUE * low:
        return found
    doubt = "these runs hardly say how to split a budget between N and D"
    return replace(found, verdict="weak", reasons=(*found.reasons, doubt))


def _split(fit: FitResult | PublishedLaw, flops: float, level: float) -> tuple[dict[str, float], dict[str, Any]]:
    """The compute-optimal N and D of a budget, and the same with its intervals for the answer."""
    best = compute_optimal(fit, flops, level=level, judge=False)
    at = {"N": float(best.n_params), "D": float(best.n_tokens), "C": flops}
    return at, {
        "n_params": at["N"], "n_tokens": at["D"], "tokens_per_param": float(best.tokens_per_param),
        "n_interval": best.n_interval, "d_interval": best.d_interval, "at_edge": best.at_edge,
    }  # fmt: skip


def _elsewhere(law: SourceLaw, at: dict[str, float]) -> str:
    """Why a law measured at one D (or N, or D/N), or at an unknown one, does not speak about the target, or ""."""
    found = unanswered(at, law.variables, law.held)
    if found is None:
        return ""
    name, wanted, own = found
    if own is None:
        (x,) = law.variables
        return f"this law is one of {x} alone and knows nothing of {UNITS[name]}: ask {x}={at[x]:.4g} alone"
    return (
        f"this law was measured at {short(own)} {UNITS[name]} and the target has {short(wanted)}: that takes a law of "
        "N and D together"
    )


# ---- in words --------------------------------------------------------------------


def in_words(source: Laws, answers: Sequence[Answer], level: float) -> str:
    """Every answer as a short paragraph, under what the source is."""
    lines = _wrapped(f"{source.name}: {source.about}", "")
    last = None
    for a in answers:
        if a.target != last:
            counts = ", ".join(f"{_count(k, a.at[k])} {UNITS[k]}" for k in "NDC" if k in a.at)
            lines += ["", *_wrapped(f"{a.target}: {counts}" + (f" ({a.note})" if a.note else ""), "")]
        last = a.target
        lines += _wrapped(a.law, "  ") if a.law else []
        if a.loss is None:
            lines += _wrapped(f"no prediction: {a.verdict}", "    ")
        else:
            lines += [*_best(a, level), *_wrapped(_loss(a, source.loss_unit, level), "    ")]
        lines += [line for reason in a.reasons for line in _wrapped(f"- {reason}", "    ")]
    return "\n".join(lines)


def _best(a: Answer, level: float) -> list[str]:
    if a.optimal is None:
        return []
    parts = [f"best split: {a.optimal['tokens_per_param']:.3g} tokens per parameter"]
    for name, key in (("N", "n_interval"), ("D", "d_interval")):
        if a.optimal[key]:
            parts.append(f"{level:.0%} interval of {name} {' to '.join(short(v) for v in a.optimal[key])}")
    return _wrapped("; ".join(parts), "    ")


def _loss(a: Answer, unit: str, level: float) -> str:
    text = f"{a.loss:.4g} {unit} ({a.verdict})"
    if a.mean_interval is None:
        return f"{text}; no interval: no covariance is published"
    text += f"; {level:.0%} interval of the law {_range(a.mean_interval)}"
    return text + (f", of a new run {_range(a.new_run_interval)}" if a.new_run_interval else "")


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.4g} to {pair[1]:.4g}" if math.isfinite(pair[1]) else f"{pair[0]:.4g} upwards, without an end"


def _count(name: str, value: float) -> str:
    return f"{value:.3g}" if name == "C" else short(value)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)

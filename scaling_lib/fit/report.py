"""One call from a table of runs to a report: what the command ``fit`` prints, as text or as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import _headings, backtests
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.check import check_level
from scaling_lib.fit.estimate import fit_law
from scaling_lib.fit.laws import Law
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import RunTable

SAME = 0.05  # a share: counts that differ by less are one count
_UNITS = {"N": "parameters", "D": "tokens", "C": "FLOP", "U": "unique tokens"}


@dataclass(frozen=True)
class Prediction:
    """The answer at one target.

    target : variable -> value. level : the verdict's. reasons : in plain words. refused : whether the fit
        cannot bear it.
    loss, mean, new_run : the prediction, the interval of the law and that of one more run; None where
        refused.
    """

    target: Mapping[str, float]
    level: str
    reasons: tuple[str, ...]
    refused: bool
    loss: float | None
    mean: tuple[float, float] | None
    new_run: tuple[float, float] | None


@dataclass(frozen=True)
class Report:
    """A fit of a table and its predictions.

    fit : the fit. table : the runs. confidence : level of every interval. predictions : one per target.
    """

    fit: FitResult
    table: RunTable
    confidence: float
    predictions: tuple[Prediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: no NaN, no infinity (null instead), no arrays."""
        fit = self.fit
        verdict = fit.verdict()
        return _plain(
            {
                "source": self.table.source,
                "runs": fit.n_points,
                "loss_unit": self.table.loss_unit,
                "columns": self.table.columns,
                "derived": self.table.derived,
                "columns_not_read": self.table.ignored,
                "notes": self.table.notes,
                "law": fit.law.name,
                "formula": fit.law.formula,
                "law_source": fit.law.source,
                "params": fit.params,
                "stderr": fit.stderr,
                "fixed": fit.fixed,
                "units": dict(zip(fit.law.param_names, fit.law.units, strict=True)),
                "objective": {"name": fit.objective, "value": fit.cost, "delta": fit.delta},
                "dof": fit.dof,
                "noise": fit.sigma,
                "fit_range": fit.fit_range,
                "success": fit.success,
                "message": fit.message,
                "certificate": fit.diagnostics.get("certificate"),
                "at_bound": fit.diagnostics.get("at_bound"),
                "condition": fit.diagnostics.get("condition"),
                "bootstrap": {
                    "draws": 0 if fit.draws is None else len(fit.draws),
                    "kind": fit.bootstrap_kind or None,
                    "clusters": None if fit.groups is None else len(np.unique(fit.groups)),
                },
                "verdict": {"level": verdict.level, "reasons": verdict.reasons, "refused": verdict.refused},
                "confidence": self.confidence,
                "predictions": [
                    {
                        "target": p.target,
                        "loss": p.loss,
                        "mean_interval": p.mean,
                        "new_run_interval": p.new_run,
                        "verdict": p.level,
                        "refused": p.refused,
                        "reasons": p.reasons,
                    }
                    for p in self.predictions
                ],
            }
        )

    def to_text(self) -> str:
        """Return the fit's checklist and a paragraph per prediction, for a person."""
        lines = [f"table: {self.table.source}, {len(self.table)} runs", *about_reading(self.table), self.fit.summary()]
        for p in self.predictions:
            at = ", ".join(f"{name} = {value:.4g} {_UNITS[name]}" for name, value in p.target.items())
            if p.loss is None or p.mean is None or p.new_run is None:
                lines.append(f"at {at}: no prediction, {p.level}")
            else:
                lines.append(
                    f"at {at}: {p.loss:.4f} {self.table.loss_unit} ({p.level}); {self.confidence:.0%} "
                    f"interval of the law {_range(p.mean)}, of a new run {_range(p.new_run)}"
                )
            lines += [f"  - {reason}" for reason in p.reasons]
        return "\n".join(lines)


def fit_table(
    table: RunTable,
    *,
    law: str | Law = "auto",
    objective: str | None = None,
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    bootstrap: int = 0,
    bootstrap_kind: str = "auto",
    predict: Iterable[str | Mapping[str, float]] = (),
    level: float = 0.9,
    seed: int = 0,
) -> Report:
    """Fit a law to a table of runs and predict at targets.

    Parameters
    ----------
    table : from :func:`scaling_lib.fit.read_table`; ``table.groups`` are taken as clusters.
    law : a form's name, ``"power_c"``, or ``"auto"`` (see :func:`scaling_lib.fit.backtest`).
    objective, delta, fixed, bootstrap, bootstrap_kind, seed : as :func:`scaling_lib.fit.fit_law` takes
        them; the default objective is "huber" for a joint law and "log_mse" for one variable.
    predict : targets, such as ``"N=175e9,D=300e9"`` or ``{"N": 175e9, "D": 300e9}``. Of N, D and C two suffice; for a
        joint law C alone means the compute-optimal N and D of that budget.
    level : of the intervals.

    Raises
    ------
    InputError : for a table without the law's columns, a bad target (one at another D than all runs of a law of N,
        say, or in a variable that the table does not have), or what the fit refuses.
    """
    check_level(level)
    form = backtests.choose_law(table, law)
    if "U" in form.variables:
        raise InputError(f"law {form.name!r} needs the unique tokens of each run: use fit_joint(unique_tokens=...)")
    targets = [_target(p, form, table) for p in predict]
    fit = fit_law(
        form,
        tuple(table.get(v) for v in form.variables),
        table.loss,
        pool=law == "auto",
        objective=objective or ("huber" if len(form.variables) > 1 else "log_mse"),
        delta=delta,
        fixed=fixed,
        groups=table.groups,
        bootstrap=bootstrap,
        bootstrap_kind=bootstrap_kind,
        labels=None if table.labels is None else table.labels.tolist(),
        seed=seed,
        notes={"columns": _columns(table)},
    )
    return Report(fit, table, level, tuple(_predict(fit, target, level) for target in targets))


def parse_target(target: str | Mapping[str, float], law: Law) -> dict[str, float]:
    """Return the law's variables at a target such as "N=175B,D=300e9"; of N, D and C two suffice.

    C alone stays C where the law is one of N and D: the budget's best split is meant.
    """
    given = counts(target)
    if set(given) == {"C"} and law.variables == ("N", "D"):
        return given
    full = completed(given)
    missing = [v for v in law.variables if v not in full]
    if missing:
        raise InputError(
            f"law {law.name!r} predicts at {', '.join(law.variables)}; the target lacks {', '.join(missing)}"
        )
    return {v: full[v] for v in law.variables}


def counts(target: str | Mapping[str, float]) -> dict[str, float]:
    """Return the N, D and C that a target gives, checked."""
    given: dict[str, float] = {}
    if isinstance(target, str):
        for part in target.split(","):
            name, mark, text = part.partition("=")
            name = name.strip().upper()
            if not mark or name not in ("N", "D", "C"):
                raise InputError(f"target {_headings.show(target)}: write it as N=175e9,D=300e9 (names N, D, C)")
            at = f"target {_headings.show(target)}, {name}"
            if name in given:
                raise InputError(f"{at} is given twice")
            given[name] = _headings.number(text.strip(), name, at)[0]
    else:
        given = dict(target)
    for name, value in given.items():
        if name not in ("N", "D", "C") or isinstance(value, str):
            raise InputError(f"target {target!r}: give numbers for N, D or C")
        given[name] = _headings.check(float(value), f"{value:g}", name, f"target {name}")
    n, d, c = (given.get(k, math.nan) for k in ("N", "D", "C"))
    if len(given) == 3 and not 0.5 < c / (6 * n * d) < 2:
        raise InputError(f"target {target!r}: C is not near 6 N D = {6 * n * d:.3g}; give two of the three")
    return given


def completed(at: Mapping[str, float]) -> dict[str, float]:
    """Return N, D and C where two of them are given, by C = 6 N D; else what is given."""
    n, d, c = (at.get(k, math.nan) for k in ("N", "D", "C"))
    third = {"N": c / (6 * d), "D": c / (6 * n), "C": 6 * n * d}
    return {k: float(at.get(k, third[k])) for k in ("N", "D", "C") if len(at) > 1 or k in at}


def held_counts(table: RunTable, variables: Sequence[str]) -> dict[str, float]:
    """Return what all runs share beside the variable of a law of one variable: N, D, or their ratio "D/N"."""
    n, d = table.n_params, table.n_tokens
    if n is None or d is None or len(variables) > 1:
        return {}
    name, values = {"N": ("D", d), "D": ("N", n), "C": ("D/N", d / n)}[variables[0]]
    return {name: float(values.mean())} if values.max() <= (1 + SAME) * values.min() else {}


def unanswered(
    at: Mapping[str, float], variables: Sequence[str], held: Mapping[str, float]
) -> tuple[str, float, float | None] | None:
    """What a target asks beyond a law of one variable: (name, value, the law's own value or None if not known).

    ``at`` holds N, D, C as far as they are given, ``held`` what the law's runs share. A law of C answers at N and D.
    """
    if len(variables) > 1:
        return None
    full = completed(at)
    name = {"N": "D", "D": "N", "C": "D/N"}[variables[0]]
    if {"N", "D"} <= set(full):
        full["D/N"] = full["D"] / full["N"]
    if name not in full or (name == "D/N" and name not in held):
        return None
    if name in held and abs(math.log(full[name] / held[name])) <= SAME:
        return None
    return name, full[name], held.get(name)


def _target(target: str | Mapping[str, float], law: Law, table: RunTable) -> dict[str, float]:
    """The target in the law's variables, unless it asks for something that the law does not know."""
    found = unanswered(counts(target), law.variables, held_counts(table, law.variables))
    if found is None:
        return parse_target(target, law)
    name, wanted, own = found
    known = f"knows nothing of {name}" if own is None else f"has {name} = {own:.4g} in all its runs, not {wanted:.4g}"
    raise InputError(
        f"target {target!r}: this law of {law.variables[0]} alone {known}; ask at {law.variables[0]} alone, or fit a "
        "law of N and D"
    )


def _predict(fit: FitResult, target: dict[str, float], level: float) -> Prediction:
    if set(target) == {"C"} and fit.law.variables != ("C",):
        best = compute_optimal(fit, target["C"], level=level, judge=False)
        target = {"N": float(best.n_params), "D": float(best.n_tokens), **target}
        if best.at_edge:
            reason = "the best split lies at the end of what was searched: the law has no optimum"
            return Prediction(target, "not identifiable", (reason,), True, None, None, None)
    x = tuple(target[v] for v in fit.law.variables)
    verdict = fit.verdict(*x)
    if verdict.refused:
        return Prediction(target, verdict.level, verdict.reasons, True, None, None, None)
    return Prediction(
        target,
        verdict.level,
        verdict.reasons,
        False,
        float(fit.predict(*x)),
        fit.interval(*x, level=level, kind="mean"),
        fit.interval(*x, level=level, kind="new_run"),
    )


def about_reading(table: RunTable) -> list[str]:
    """Return, as lines, what was left aside or decided while the table was read."""
    unread = [f"columns not read: {', '.join(map(_headings.show, table.ignored))}"] if table.ignored else []
    return unread + [f"note: {note}" for note in table.notes]


def _columns(table: RunTable) -> str:
    """Return which heading each number was read from, and what was worked out."""
    parts = [f"{role} from {heading!r}" for role, heading in table.columns.items()] or ["as passed in"]
    return ", ".join(parts + [f"{role} from C = 6 N D" for role in table.derived]) + f"; loss in {table.loss_unit}"


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.4f} to {pair[1]:.4f}"


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

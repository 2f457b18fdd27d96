"""One call from a table of runs to a report: what the command ``fit`` prints, as text or as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import backtests
from scaling_lib.fit.allocate import Allocation, compute_optimal
from scaling_lib.fit.check import check_level
from scaling_lib.fit.estimate import fit_joint, fit_law
from scaling_lib.fit.headings import COUNTS, check, number, show
from scaling_lib.fit.isoflops import IsoFlopResult, isoflop
from scaling_lib.fit.laws import Law
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.rows import RunTable, completed

SAME = 0.05  # a share: counts that differ by less are one count
_UNITS = {"N": "parameters", "D": "tokens", "C": "FLOP", "U": "unique tokens"}


@dataclass(frozen=True)
class Prediction:
    """The answer at one target; without numbers where it is refused.

    Attributes
    ----------
    target : variable -> value. level : the verdict's. reasons : in plain words. refused : whether the fit cannot bear
        a prediction there.
    loss, mean, new_run : the prediction, the interval of the law and that of one more run.
    best : of a budget alone, its allocation.
    """

    target: Mapping[str, float]
    level: str
    reasons: tuple[str, ...]
    refused: bool
    loss: float | None = None
    mean: tuple[float, float] | None = None
    new_run: tuple[float, float] | None = None
    best: Allocation | None = None


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
        fit, verdict = self.fit, self.fit.verdict()
        found = {
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
            "units": dict(zip(fit.law.param_names, fit.law.units, strict=True)),
            "objective": {"name": fit.objective, "value": fit.cost, "delta": fit.delta},
            "noise": fit.sigma,
            "bootstrap": {
                "draws": 0 if fit.draws is None else len(fit.draws),
                "kind": fit.bootstrap_kind or None,
                "clusters": None if fit.groups is None else len(np.unique(fit.groups)),
            },
            "verdict": {"level": verdict.level, "reasons": verdict.reasons, "refused": verdict.refused},
            "confidence": self.confidence,
            "predictions": [
                {"target": p.target, "loss": p.loss, "mean_interval": p.mean, "new_run_interval": p.new_run,
                 "verdict": p.level, "refused": p.refused, "reasons": p.reasons}
                for p in self.predictions
            ],
        }  # fmt: skip
        found |= {k: getattr(fit, k) for k in ("params", "stderr", "fixed", "dof", "fit_range", "success", "message")}
        return _plain(found | {k: fit.diagnostics.get(k) for k in ("certificate", "at_bound", "condition")})

    def to_text(self) -> str:
        """Return the fit's checklist and a paragraph per prediction, for a person."""
        lines = [f"table: {self.table.source}, {len(self.table)} runs", *about_reading(self.table), self.fit.summary()]
        for p in self.predictions:
            at = ", ".join(f"{name} = {value:.4g} {_UNITS[name]}" for name, value in p.target.items())
            if p.loss is None or p.mean is None or p.new_run is None:
                lines.append(f"at {at}: no prediction, {p.level}")
            else:
                mean, new = (f"{low:.4f} to {high:.4f}" for low, high in (p.mean, p.new_run))
                lines.append(
                    f"at {at}: {p.loss:.4f} {self.table.loss_unit} ({p.level}); {self.confidence:.0%} interval of the "
                    f"law {mean}, of a new run {new}"
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
    held = held_counts(table, form.variables)
    targets = [parse_target(target, form, held) for target in predict]
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
    return Report(fit, table, level, tuple(ask(fit, target, level) for target in targets))


def parse_target(
    target: str | Mapping[str, float], law: Law, held: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the law's variables at a target such as "N=175B,D=300e9"; of N, D and C two suffice.

    C alone stays C where the law is one of N and D: the budget's best split is meant. ``held`` is what the law's runs
    share (see `held_counts`): a target elsewhere is refused. Without it there is no such check.
    """
    given = counts(target)
    found = None if held is None else unanswered(given, law.variables, held)
    if found is not None:
        name, wanted, own = found
        known = f"has {name} = {own:.4g} in all its runs, not {wanted:.4g}" if own else f"knows nothing of {name}"
        raise InputError(
            f"target {target!r}: this law of {law.variables[0]} alone {known}; ask at {law.variables[0]} alone, or fit "
            "a law of N and D"
        )
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
            name, mark, text = (word.strip() for word in part.partition("="))
            at = f"target {show(target)}, {name.upper()}"
            if not mark or name.upper() not in COUNTS:
                raise InputError(f"target {show(target)}: write it as N=175e9,D=300e9 (names N, D, C)")
            if name.upper() in given:
                raise InputError(f"{at} is given twice")
            given[name.upper()] = number(text, name.upper(), at)[0]
    else:
        given = dict(target)
    for name, value in given.items():
        if name not in COUNTS or isinstance(value, str):
            raise InputError(f"target {target!r}: give numbers for N, D or C")
        check(np.array([value], dtype=float), name, lambda _, name=name: f"target {name}")  # type: ignore[misc]
        given[name] = float(value)
    if len(given) == 3 and not 0.5 < given["C"] / (6 * given["N"] * given["D"]) < 2:
        right = 6 * given["N"] * given["D"]
        raise InputError(f"target {target!r}: C is not near 6 N D = {right:.3g}; give two of the three")
    return given


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


def ask(fit: FitResult, at: Mapping[str, float], level: float = 0.9) -> Prediction:
    """Answer at a target: the law's variables by name, or C alone for the best split of a budget by a joint law."""
    target, best = dict(at), None
    if set(at) == {"C"} and fit.law.variables != ("C",):
        best = compute_optimal(fit, at["C"], level=level, judge=False)
        target = {"N": float(best.n_params), "D": float(best.n_tokens), **at}
    x = tuple(target[v] for v in fit.law.variables)
    verdict = fit.verdict(*x)
    if verdict.refused:
        return Prediction(target, verdict.level, verdict.reasons, True, best=best)
    if best is not None and best.at_edge:
        reason = "the best split lies at the end of what was searched: the law has no optimum"
        return Prediction(target, "not identifiable", (reason,), True, best=best)
    mean, new_run = (fit.interval(*x, level=level, kind=kind) for kind in ("mean", "new_run"))
    return Prediction(target, verdict.level, verdict.reasons, False, float(fit.predict(*x)), mean, new_run, best)


def about_reading(table: RunTable) -> list[str]:
    """Return, as lines, what was left aside or decided while the table was read."""
    unread = [f"columns not read: {', '.join(map(show, table.ignored))}"] if table.ignored else []
    return unread + [f"note: {note}" for note in table.notes]


def _columns(table: RunTable) -> str:
    """Return which heading each number was read from, and what was worked out."""
    parts = [f"{role} from {heading!r}" for role, heading in table.columns.items()] or ["as passed in"]
    return ", ".join(parts + [f"{role} from C = 6 N D" for role in table.derived]) + f"; loss in {table.loss_unit}"


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- beside a joint law ----------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Compute-optimal sizes by the parabolas and, beside them, by a joint law fitted to the same runs.

    isoflop : the parabolas. joint : the fit of L(N, D). optima : at each budget asked for, the joint law's allocation.
    """

    isoflop: IsoFlopResult
    joint: FitResult
    optima: tuple[Allocation, ...]

    def to_text(self) -> str:
        """Return the parabolas' summary, and a line per budget with both answers."""
        lines = [self.isoflop.summary(), f"beside it, the joint law {self.joint.law.formula}: {self.joint.verdict()}"]
        for best in self.optima:
            n, (low, high) = self.isoflop.optimal(best.flops)[0], self.isoflop.interval(best.flops)
            lines.append(f"at C = {best.flops:.4g}: N* = {n:.4g} by the parabolas ({low:.4g} to {high:.4g}),")
            if best.verdict is not None and best.verdict.refused:
                lines.append(f"  no answer by the joint law: {best.verdict}")
            else:
                ends = best.n_interval or (0.0, np.inf)
                lines.append(f"  {best.n_params:.4g} by the joint law ({ends[0]:.4g} to {ends[1]:.4g})")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: null where there is no number."""
        r, answers = self.isoflop, []
        for best in self.optima:
            refused = best.verdict is not None and best.verdict.refused
            answers.append(
                {
                    "flops": best.flops, "n_params": r.optimal(best.flops)[0], "n_interval": r.interval(best.flops),
                    "joint_n_params": None if refused else best.n_params,
                    "joint_n_interval": None if refused else best.n_interval, "joint_verdict": str(best.verdict),
                }
            )  # fmt: skip
        arrays = {name: getattr(r, name).tolist() for name in ("budgets", "n_opt", "loss_opt")}
        numbers = {name: getattr(r, name) for name in ("level", "a", "a_interval", "b", "b_interval", "lack_of_fit")}
        return {
            "approach": "isoflop", **numbers, "window": r.window if np.isfinite(r.window) else None, **arrays,
            "minima": r.flags, "joint_params": self.joint.params, "predictions": answers,
        }  # fmt: skip


def compare_with_joint(table: RunTable, flops: Sequence[float] = (), **options: Any) -> Comparison:
    """Fit the parabolas and a joint law to one table, and set their optima at budgets ``flops`` side by side.

    Parameters
    ----------
    table : with N, D and C.
    options : of `isoflop`; ``level`` and ``flops_per`` hold for both.

    Raises
    ------
    InputError : for a table without N and C, or what either fit refuses.
    """
    found = isoflop(table.get("N"), table.get("C"), table.loss, groups=table.groups, **options)
    joint = fit_joint(table.get("N"), table.get("D"), table.loss, groups=table.groups)
    optima = [compute_optimal(joint, float(c), level=found.level, flops_per=found.flops_per) for c in flops]
    return Comparison(found, joint, tuple(optima))

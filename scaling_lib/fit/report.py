"""One call from a table of runs to a report: what the command ``fit`` prints, as text or as JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import backtests, published
from scaling_lib.fit.allocate import Allocation, compute_optimal
from scaling_lib.fit.check import check_level, positive
from scaling_lib.fit.estimate import fit_joint, fit_law
from scaling_lib.fit.headings import COUNTS, RANGES, read_numbers, show
from scaling_lib.fit.isoflops import IsoFlopResult, isoflop
from scaling_lib.fit.laws import Law
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.rows import RunTable, completed, contradiction
from scaling_lib.words import plain_data, short

SAME = 0.05  # a share: counts that differ by less are one count
VAGUE = 10.0  # an optimum whose interval spans this factor hardly says how to spend a budget
UNITS = {"N": "parameters", "D": "tokens", "C": "FLOP", "D/N": "tokens per parameter", "C/6ND": "times 6 N D of FLOP"}


@dataclass(frozen=True)
class Target:
    """Where a loss is wanted: a name, and those of N (parameters), D (tokens), C (FLOP) that are known."""

    name: str
    at: Mapping[str, float]
    note: str = ""
    exact: bool = True  # False for a model by its name: all its counts are known, not all of them asked about


def parse_target(target: str | Mapping[str, float]) -> Target:
    """Read ``N=1e9,D=2e10``, ``C=1e21``, a mapping, or the name of a published model or family: then its largest.

    Raises InputError for a name that is not known (it lists those that are), or counts that cannot be read.
    """
    if not isinstance(target, str) or "=" in target:
        given = _counts(target)
        return Target(", ".join(f"{k} = {v:.4g}" for k, v in given.items()), completed(given))

    def bare(name: str) -> str:
        return "".join(c for c in name.lower() if c.isalnum() or c == ".")  # 1.3B is not 13B

    models, wanted = published.models(), bare(target)
    found = [m for m in models if wanted == bare(m.name)]
    found = found or [m for m in models if wanted and wanted in (bare(m.family), bare(m.name.split("(")[0]))]
    if not found:
        known = ", ".join(m.name for m in models)
        raise InputError(f"target {show(target)}: no model has that name; write N=1e9,D=2e10, or one of {known}")
    m = max(found, key=lambda m: m.n_params)
    at = {"N": m.n_params, "D": m.n_tokens} | ({} if m.flops is None else {"C": m.flops})
    return Target(m.name, completed(at), f"rumour: {m.note}" if m.tag == "rumour" else "", exact=False)


def _counts(target: str | Mapping[str, float]) -> dict[str, float]:
    """The N, D and C that a target gives, checked."""
    if not isinstance(target, str | Mapping) or not target:
        raise InputError(f"target {target!r}: write it as 'N=175e9,D=300e9' or {{'N': 175e9, 'D': 300e9}}")
    if isinstance(target, Mapping):
        given = {**target}
    else:
        given, shown = {}, show(target)
        for part in target.split(","):
            name, mark, text = (word.strip() for word in part.partition("="))
            name = name.upper()
            if not mark or name not in COUNTS:
                raise InputError(f"target {shown}: write it as N=175e9,D=300e9 (names N, D, C)")
            if name in given:
                raise InputError(f"target {shown}, {name} is given twice")
            given[name] = read_numbers([text], name, [f"target {shown}, {name}"])[0][0]
    for name, value in given.items():
        if name not in COUNTS or isinstance(value, str) or np.ndim(value):
            raise InputError(f"target {target!r}: give numbers for N, D or C")
        given[name] = float(positive(name, [value], *RANGES[name], [f"target {name}"])[0])
    if contradiction(given).size:
        right = 6 * given["N"] * given["D"]
        raise InputError(f"target {target!r}: C is not near 6 N D = {right:.3g}; give two of the three")
    return given


def held_counts(table: RunTable, variables: Sequence[str]) -> dict[str, float]:
    """Return what all runs share beside the variable of a law of one variable: N, D, or their ratio "D/N".

    With "C/6ND" for a law of C whose runs spent other than 6 N D: what it says of N and D is not known.
    """
    n, d = table.n_params, table.n_tokens
    if n is None or d is None or len(variables) > 1:
        return {}
    name, values = {"N": ("D", d), "D": ("N", n), "C": ("D/N", d / n)}[variables[0]]
    held = {name: float(values.mean())} if values.max() <= (1 + SAME) * values.min() else {}
    ratio = contradiction({"N": n, "D": d, "C": table.get("C")}) if variables == ("C",) else np.empty(0)
    return held | ({"C/6ND": float(np.median(ratio))} if ratio.size else {})


def can_answer(variables: Sequence[str], at: Mapping[str, float]) -> bool:
    """Whether a law in ``variables`` has what it needs at a target; of a law of N and D a budget's best split."""
    return set(variables) - {"U"} <= set(at) or (set(at) == {"C"} and tuple(variables) == ("N", "D"))


def lacking(at: Mapping[str, float], *forms: Sequence[str]) -> str:
    """Why none of the laws, given by their variables, can answer at a target."""
    has = " and ".join(dict.fromkeys(f"L({', '.join(variables)})" for variables in forms))
    if set(at) != {"C"}:
        return f"the target gives {', '.join(at)}, and here is {has}"
    return f"the best split of a budget takes a law of N and D together, and here is {has}; --mode laptop trains one"


def elsewhere(at: Mapping[str, float], variables: Sequence[str], held: Mapping[str, float]) -> str:
    """Why a law of one variable does not speak about a target, or "".

    It was measured at one D (or N, or D/N), or at an unknown one. ``held`` : see `held_counts`. A law of C answers at
    N and D.
    """
    if len(variables) > 1:
        return ""
    (x,) = variables
    full, name = completed(at), {"N": "D", "D": "N", "C": "D/N"}[x]
    if {"N", "D"} <= set(full):
        full |= {"D/N": full["D"] / full["N"], "C/6ND": 1.0}
    if name in full and name not in held and name != "D/N":
        return f"this law is one of {x} alone and knows nothing of {UNITS[name]}: ask {x}={at[x]:.4g} alone"
    for other, own in held.items():
        if other in full and abs(math.log(full[other] / own)) > SAME:
            way = f"ask {x} alone" if other == "C/6ND" else "that takes a law of N and D together"
            there = short(full[other])
            return f"this law was measured at {short(own)} {UNITS[other]} and the target has {there}: {way}"
    return ""


@dataclass(frozen=True)
class Prediction:
    """The answer at one target; without numbers where it is refused.

    Attributes
    ----------
    target : variable -> value. level : the verdict's. reasons : in plain words.
    loss, mean, new_run : the prediction, the interval of the law and that of one more run.
    best : of a budget alone, its allocation.
    """

    target: Mapping[str, float]
    level: str
    reasons: tuple[str, ...]
    refused: bool = True
    loss: float | None = None
    mean: tuple[float, float] | None = None
    new_run: tuple[float, float] | None = None
    best: Allocation | None = None


def ask(
    fit: FitResult, at: Mapping[str, float], level: float = 0.9, held: Mapping[str, float] | None = None
) -> Prediction:
    """Answer at a target: the law's variables by name, or C alone for the best split of a budget by a joint law."""
    variables, best = fit.law.variables, None
    if not can_answer(variables, at):
        return Prediction(at, "no law", (lacking(at, variables),))
    if set(at) == {"C"} and variables != ("C",):
        best = compute_optimal(fit, at["C"], level=level, judge=False)
        at = {"N": float(best.n_params), "D": float(best.n_tokens), **at}
    target = at if best else {v: at[v] for v in variables}
    x = tuple(target[v] for v in variables)
    verdict = fit.verdict(*x)
    if verdict.refused:
        return Prediction(target, verdict.level, verdict.reasons, best=best)
    if held is not None and (why := elsewhere(at, variables, held)):
        return Prediction(target, "no law", (why,))
    if best is not None and best.at_edge:
        reason = "the best split lies at the end of what was searched: the law has no optimum"
        return Prediction(target, "not identifiable", (reason,), best=best)
    mean, new_run = (fit.interval(*x, level=level, kind=kind) for kind in ("mean", "new_run"))
    low, high = (1.0, 1.0) if best is None else best.n_interval or (0.0, math.inf)
    told, reasons = verdict.level, verdict.reasons
    if high > VAGUE * low:
        told, reasons = "weak", (*reasons, "these runs hardly say how to split a budget between N and D")
    return Prediction(target, told, reasons, False, float(fit.predict(*x)), mean, new_run, best)


@dataclass(frozen=True)
class Report:
    """A fit of a table of runs and its predictions, one per target; ``confidence`` is the level of every interval."""

    fit: FitResult
    table: RunTable
    confidence: float
    predictions: tuple[Prediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: no NaN, no infinity (null instead), no arrays."""
        fit, table, verdict = self.fit, self.table, self.fit.verdict()
        found = {
            "source": table.source, "runs": fit.n_points, "loss_unit": table.loss_unit,
            "columns": table.columns, "derived": table.derived, "columns_not_read": table.ignored,
            "notes": table.notes,
            "law": fit.law.name, "formula": fit.law.formula, "law_source": fit.law.source,
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
        return plain_data(found | {k: fit.diagnostics.get(k) for k in ("certificate", "at_bound", "condition")})

    def to_text(self) -> str:
        """Return the fit's checklist and a paragraph per prediction, for a person."""
        lines = [f"table: {self.table.source}, {len(self.table)} runs", *about_reading(self.table)]
        lines.append(self.fit.summary(level=self.confidence))
        for p in self.predictions:
            at = ", ".join(f"{name} = {value:.4g} {UNITS[name]}" for name, value in p.target.items())
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


def about_reading(table: RunTable) -> list[str]:
    """Return, as lines, what was left aside or decided while the table was read."""
    return ([table.unread] if table.ignored else []) + [f"note: {note}" for note in table.notes]


def fit_table(
    table: RunTable,
    *,
    law: str | Law = "auto",
    objective: str | None = None,
    predict: Iterable[str | Mapping[str, float]] = (),
    level: float = 0.9,
    **options: Any,
) -> Report:
    """Fit a law to a table of runs and predict at targets.

    Parameters
    ----------
    table : from :func:`scaling_lib.fit.read_table`; ``table.groups`` are taken as clusters.
    law : a form's name, ``"power_c"``, or ``"auto"`` (see :func:`scaling_lib.fit.backtest`).
    objective : by default "huber" for a joint law and "log_mse" for one variable.
    predict : targets, such as ``"N=175e9,D=300e9"``, ``{"N": 175e9, "D": 300e9}`` or ``"GPT-3"`` (see `parse_target`).
        For a joint law C alone means the compute-optimal N and D of that budget.
    level : of the intervals.
    options : delta, fixed, bootstrap, bootstrap_kind, seed, as :func:`scaling_lib.fit.fit_law` takes them.

    Raises
    ------
    InputError : for a table without the law's columns, a target that cannot be read, or what the fit refuses. A target
        that the law cannot answer (of a law of N one at another D than that of its runs, say) is a refused prediction.
    """
    check_level(level)
    form = backtests.choose_law(table, law)
    if "U" in form.variables:
        raise InputError(f"law {form.name!r} needs the unique tokens of each run: use fit_joint(unique_tokens=...)")
    held = held_counts(table, form.variables)
    targets = [parse_target(target) for target in ([predict] if isinstance(predict, str | Mapping) else predict)]
    read = [f"{role} from {heading!r}" for role, heading in table.columns.items()] or ["as passed in"]
    read += [f"{role} from C = 6 N D" for role in table.derived]
    fit = fit_law(
        form,
        tuple(table.get(v) for v in form.variables),
        table.loss,
        pool=law == "auto",
        objective=objective or ("huber" if len(form.variables) > 1 else "log_mse"),
        groups=table.groups,
        labels=None if table.labels is None else table.labels.tolist(),
        notes={"columns": f"{', '.join(read)}; loss in {table.loss_unit}"},
        **options,
    )
    found = [ask(fit, target.at, level, held) for target in targets]
    found = [replace(p, reasons=(*p.reasons, t.note)) if t.note else p for p, t in zip(found, targets, strict=True)]
    return Report(fit, table, level, tuple(found))


# ---- parabolas and a joint law ---------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Compute-optimal sizes by the parabolas and, beside them, by a joint law fitted to the same runs.

    isoflop : the parabolas. joint : the fit of L(N, D). optima : at each budget asked for, the joint law's allocation.
    """

    isoflop: IsoFlopResult
    joint: FitResult
    optima: tuple[Allocation, ...]

    def _answers(self) -> list[dict[str, Any]]:
        """Of each budget both optimal sizes with their intervals; None where the joint law refuses."""
        answers, r = [], self.isoflop
        for best in self.optima:
            size, ends = best.n_params, best.n_interval
            if best.verdict is not None and best.verdict.refused:
                size, ends = None, None
            joint = {"joint_n_params": size, "joint_n_interval": ends, "joint_verdict": str(best.verdict)}
            own = {"n_params": r.optimal(best.flops)[0], "n_interval": r.interval(best.flops)}
            answers.append({"flops": best.flops, **own, **joint})
        return answers

    def to_text(self) -> str:
        """Return the parabolas' summary, and a line per budget with both answers."""
        lines = [self.isoflop.summary(), f"beside it, the joint law {self.joint.law.formula}: {self.joint.verdict()}"]
        for a in self._answers():
            low, high = a["n_interval"]
            lines.append(
                f"at C = {a['flops']:.4g}: N* = {a['n_params']:.4g} by the parabolas ({low:.4g} to {high:.4g}),"
            )
            if a["joint_n_params"] is None:
                lines.append(f"  no answer by the joint law: {a['joint_verdict']}")
            else:
                low, high = a["joint_n_interval"] or (0.0, np.inf)
                lines.append(f"  {a['joint_n_params']:.4g} by the joint law ({low:.4g} to {high:.4g})")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: null where there is no number."""
        names = ("level", "a", "a_interval", "b", "b_interval", "lack_of_fit", "window", "budgets", "n_opt", "loss_opt")
        found = {name: getattr(self.isoflop, name) for name in names}
        more = {"minima": self.isoflop.flags, "joint_params": self.joint.params, "predictions": self._answers()}
        return plain_data({"approach": "isoflop", **found, **more})


def compare_with_joint(table: RunTable, flops: Sequence[float] = (), **options: Any) -> Comparison:
    """Fit the parabolas and a joint law to one table, and set their optima at budgets ``flops`` side by side.

    Parameters
    ----------
    table : with N, D and C.
    options : of `isoflop`; ``level`` holds for both.

    Raises
    ------
    InputError : for a table without N and C, or what either fit refuses.
    """
    found = isoflop(table.get("N"), table.get("C"), table.loss, groups=table.groups, **options)
    joint = fit_joint(table.get("N"), table.get("D"), table.loss, groups=table.groups)
    optima = [compute_optimal(joint, float(c), level=found.level) for c in flops]
    return Comparison(found, joint, tuple(optima))

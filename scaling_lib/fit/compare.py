"""Which form? Ranked by held-out rollout (fit the small runs, predict the large), never by how well each fits.

Beside the forms stand the two answers anybody could give without a law: a straight line of ln L in ln N (and ln D),
and the loss of the nearest trained run. A form that does not beat them has shown nothing. Forms that predict the hidden
runs equally well and disagree at the target show how much of the answer is the choice of form.
"""

from __future__ import annotations

import html as markup
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import baselines, check
from scaling_lib.fit.baselines import LINE, NEAREST
from scaling_lib.fit.estimate import fit_law
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law, get_law
from scaling_lib.fit.result import FitResult

ALIKE = 1.5  # forms within this factor of the best one's held-out error, or of 0.1%, have predicted equally well


@dataclass(frozen=True)
class FormScore:
    """One form's record.

    name : text. n_params : free parameters.
    held_out : mean absolute relative error on hidden runs (inf if it could not be fitted); worst : the largest.
    folds : hidden steps scored. in_sample : root mean squared log residual on all runs.
    prediction : at the target, None without one. fit : on all runs, None for the two baselines.
    """

    name: str
    n_params: int
    held_out: float
    worst: float
    folds: int
    in_sample: float
    prediction: float | None
    fit: FitResult | None


@dataclass(frozen=True)
class Comparison:
    """Forms, best held-out record first.

    scores : the ranking. target : the point predicted at, or None.
    spread : least and largest prediction there among the forms that did as well as the best law, or None.
    beaten : laws that did no better than a baseline.
    """

    scores: tuple[FormScore, ...]
    target: tuple[float, ...] | None
    spread: tuple[float, float] | None
    beaten: tuple[str, ...]

    @property
    def best(self) -> FormScore:
        """The form with the least held-out error."""
        return self.scores[0]

    def table(self) -> list[tuple[str, ...]]:
        """Header and rows of text."""
        head = ("form", "parameters", "held-out error", "worst", "in-sample rms", "prediction")
        body = [
            (
                s.name,
                str(s.n_params),
                f"{100 * s.held_out:.2f}%" if np.isfinite(s.held_out) else "could not be fitted",
                f"{100 * s.worst:.2f}%" if np.isfinite(s.worst) else "-",
                f"{100 * s.in_sample:.2f}%",
                "-" if s.prediction is None else f"{s.prediction:.4g}",
            )
            for s in self.scores
        ]
        return [head, *body]

    def summary(self) -> str:
        """The ranking as text, with the spread at the target in words."""
        rows = self.table()
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        if self.spread is not None:
            low, high = self.spread
            lines.append(
                f"forms that predicted the hidden runs as well as the best law range from {low:.4g} to {high:.4g} "
                f"at the target ({100 * (high / low - 1):.1f}%)"
            )
        if self.beaten:
            lines.append(f"no better than a baseline: {', '.join(self.beaten)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, *body = self.table()

        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{markup.escape(c)}</{tag}>" for c in cells) + "</tr>"

        return f"<table>{row(head, 'th')}{''.join(row(r, 'td') for r in body)}</table>"


def compare_laws(
    x: Any,
    loss: Any,
    *,
    n_tokens: Any = None,
    variable: str = "N",
    target: Any = None,
    forms: Sequence[str | Law] | None = None,
    known_floor: float | None = None,
    objective: str = "log_mse",
    folds: int = 3,
) -> Comparison:
    """Rank forms by their error on hidden larger runs, and show how far they disagree at the target.

    Parameters
    ----------
    x : (n,) sizes, or tokens with ``variable="D"``. n_tokens : (n,) tokens: then x is sizes and the laws are joint.
    loss : (n,). target : N, D, or (N, D) to predict at.
    forms : names of laws; by default every form these runs have enough distinct points for. A law with a floor is tried
        with E free and with E = 0, and with ``known_floor`` if given.
    folds : steps hidden: the runs are ordered by x (by N D for joint laws); each of the last ``folds`` distinct values
        (a tenth of the runs for joint sweeps) is predicted from all that lies below it.

    Raises
    ------
    InputError
        As the fits; ``folds`` below 1 or too large for the runs.
    """
    joint = n_tokens is not None
    names = ("N", "D") if joint else (check.choice("variable", variable, ("N", "D")),)
    data = check.columns((*names, "loss"), (x, n_tokens, loss) if joint else (x, loss))
    columns, y = tuple(data[v] for v in names), data["loss"]
    order = columns[0] * columns[1] if joint else columns[0]
    steps = _steps(order, folds, joint)
    at: tuple[float, ...] | None = None
    if target is not None:
        given = tuple(target) if isinstance(target, tuple | list) else (target,)
        at = tuple(float(v[0]) for v in check.targets(names, given)[0])
    smallest = int(np.sum(order < steps[0][0]))
    scores = []
    for name, law, fixed in _candidates(names, forms, known_floor):
        k = law.n_params - len(fixed)
        if k + 1 > smallest:
            if forms is not None:
                scores.append(FormScore(name, k, np.inf, np.inf, 0, 0.0, None, None))
            continue
        fits: dict[int, FitResult] = {}

        def by_law(
            seen: Array, wanted: Array, law: Law = law, fixed: dict[str, float] = fixed, fits: Any = fits
        ) -> Array:
            count = int(seen.sum())
            if count not in fits:
                fits[count] = fit_law(law, tuple(c[seen] for c in columns), y[seen], objective=objective, fixed=fixed)
            return np.asarray(fits[count].predict(*[c[wanted] for c in columns]))

        score = _scored(name, k, by_law, columns, y, order, steps)
        full = fits[len(y)]
        scores.append(replace(score, prediction=None if at is None else float(full.predict(*at)), fit=full))
    for name, k, rule in ((LINE, len(names) + 1, baselines.line), (NEAREST, 0, baselines.nearest)):

        def by_rule(seen: Array, wanted: Array, rule: Any = rule) -> Array:
            return np.asarray(rule(tuple(c[seen] for c in columns), y[seen], tuple(c[wanted] for c in columns)))

        there = None if at is None else float(rule(columns, y, tuple(np.array([v]) for v in at))[0])
        scores.append(replace(_scored(name, k, by_rule, columns, y, order, steps), prediction=there))
    scores.sort(key=lambda s: s.held_out)
    return Comparison(tuple(scores), at, _spread(scores), _beaten(scores))


def _steps(order: Array, folds: int, joint: bool) -> list[tuple[float, float]]:
    """(low, high) of the ordering value of each hidden step."""
    values = np.unique(order)
    if not isinstance(folds, int) or folds < 1:
        raise InputError(f"folds={folds!r} must be a whole number of 1 or more")
    width = max(1, len(values) // 10) if joint else 1
    if len(values) < 3 + folds * width:
        raise InputError(f"{len(values)} distinct sizes are too few to hide {folds * width} of them: lower folds")
    edges = [values[len(values) - width * i] for i in range(folds, 0, -1)]
    return [(float(low), float(high)) for low, high in zip(edges, [*edges[1:], np.inf], strict=True)]


def _candidates(
    names: tuple[str, ...], forms: Sequence[str | Law] | None, known_floor: float | None
) -> list[tuple[str, Law, dict[str, float]]]:
    chosen: Sequence[str | Law]
    if forms is not None:
        chosen = forms
    elif len(names) == 2:
        chosen = ("chinchilla", "kaplan", "power_mean", "over_training")
    else:
        chosen = (f"power_{names[0].lower()}", f"broken_{names[0].lower()}")
    out: list[tuple[str, Law, dict[str, float]]] = []
    for form in chosen:
        law = get_law(form)
        if law.variables != names:
            raise InputError(f"law {law.name!r} is one of {', '.join(law.variables)}, the runs of {', '.join(names)}")
        if "E" not in law.param_names:
            out.append((law.name, law, {}))
            continue
        out.append((f"{law.name}, E free", law, {}))
        if not law.name.startswith("broken"):
            out.append((f"{law.name}, E = 0", law, {"E": 0.0}))
            if known_floor is not None:
                out.append((f"{law.name}, E = {known_floor:g} known", law, {"E": known_floor}))
    return out


def _scored(
    name: str,
    k: int,
    predict: Callable[[Array, Array], Array],
    columns: tuple[Array, ...],
    y: Array,
    order: Array,
    steps: list[tuple[float, float]],
) -> FormScore:
    """A record without its prediction; ``predict(seen, wanted)`` gives the losses of rows ``wanted`` from ``seen``."""
    errors = []
    for low, high in steps:
        hidden = (order >= low) & (order < high)
        errors.append(np.abs(predict(order < low, hidden) / y[hidden] - 1.0))
    every, whole = np.concatenate(errors), np.ones(len(y), dtype=bool)
    rms = float(np.sqrt(np.mean(np.log(predict(whole, whole) / y) ** 2)))
    return FormScore(name, k, float(every.mean()), float(every.max()), len(errors), rms, None, None)


def _spread(scores: list[FormScore]) -> tuple[float, float] | None:
    laws = [s for s in scores if s.fit is not None and s.prediction is not None]
    if not laws:
        return None
    limit = max(ALIKE * laws[0].held_out, laws[0].held_out + 0.001)
    alike = [s.prediction for s in laws if s.held_out <= limit and s.prediction is not None]
    return min(alike), max(alike)


def _beaten(scores: list[FormScore]) -> tuple[str, ...]:
    bar = min(s.held_out for s in scores if s.name in (LINE, NEAREST))
    return tuple(s.name for s in scores if s.name not in (LINE, NEAREST) and s.held_out >= bar)

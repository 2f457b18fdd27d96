"""Refuse bad arrays at the door, in one line that says what is wrong, where, and how to mend it."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.forms import Array

SMALLEST, LARGEST = 1e-40, 1e40  # beyond any count or loss; inside, no power of the laws here overflows
MOST_POINTS = 2_000_000  # a fit needs some 300 bytes a point and parameter; more rows are no set of training runs


def positive(
    name: str, values: Any, low: float = SMALLEST, high: float = LARGEST, places: Sequence[str] | None = None
) -> Array:
    """``values`` as a float array (n,), finite, above 0, and from ``low`` to ``high``.

    Raises `InputError` that names the entry: by its place, or as ``name[i]``.
    """
    if np.ma.is_masked(values):
        i = int(np.argmax(np.ma.getmaskarray(values)))
        raise InputError(f"{name}[{i}] is masked: leave such runs out of every array first")
    given = np.asarray(values)
    if given.ndim != 1:
        raise InputError(f"{name} must be a one-dimensional array, got {given.ndim} dimensions: pass one value per run")
    if given.dtype.kind not in "fiub":  # objects and text, one of which is no number
        for i, value in enumerate(given.tolist()):
            if isinstance(value, str | bytes | complex):
                raise InputError(f"{name}[{i}] = {value!r} is not a number: convert the column to floats first")
            try:
                float(value)
            except (TypeError, ValueError, OverflowError):
                raise InputError(f"{name}[{i}] = {value!r} is not a number: drop the run or mend the value") from None
    out = given.astype(float)
    if len(out) == 0:
        raise InputError(f"{name} is empty: a fit needs runs")
    if len(out) > MOST_POINTS:
        raise InputError(f"{name} has {len(out):,} entries: at most {MOST_POINTS:,} runs can be fitted; thin the table")
    for bad, what in (
        (np.isnan(out), "is not a number"),
        (np.isinf(out), "is infinite"),
        (out <= 0, "is not above zero"),
        ((out < low) | (out > high), f"lies outside {low:g} to {high:g} (is its unit right?)"),
    ):
        if bad.any():
            i = int(np.argmax(bad))
            count = f" ({int(bad.sum())} such entries)" if bad.sum() > 1 else ""
            found = f"{places[i]} is {out[i]:g}, which" if places else f"{name}[{i}] = {out[i]:g}"
            cure = "mend the value" if len(out) == 1 else "drop the run or mend the value"
            raise InputError(f"{found} {what}{count}: {cure}")
    return out


def columns(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """Checked arrays of one length by name; the last is the loss. Raises `InputError`."""
    out = {name: positive(name, v) for name, v in zip(names, values, strict=True)}
    lengths = {name: len(v) for name, v in out.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise InputError(f"arrays of different length ({told}): pass one entry per run in each")
    return out


def group_codes(groups: Any, n: int) -> Array | None:
    """Cluster labels (any hashable) as integers 0..G-1 (n,), or None. Raises `InputError`."""
    if groups is None:
        return None
    try:
        labels = list(groups)
    except TypeError:
        raise InputError(f"groups={groups!r} is no list: pass one label per run") from None
    if len(labels) != n:
        raise InputError(f"groups has {len(labels)} entries for {n} runs: pass one label per run")
    seen: dict[Any, int] = {}
    try:
        codes = np.array([seen.setdefault(label, len(seen)) for label in labels])
    except TypeError:
        raise InputError("groups must hold hashable labels, such as strings or integers") from None
    if len(seen) < 2:
        raise InputError("groups names one group only: the spread between groups cannot be seen; leave groups out")
    return codes


def check_level(level: Any) -> None:
    """Raises `InputError` unless ``level`` is a number with 0 < level < 1."""
    if isinstance(level, bool) or not (isinstance(level, Real) and 0.0 < float(level) < 1.0):
        raise InputError(f"level={level!r} must lie between 0 and 1, for example 0.9")


def check_seed(seed: Any) -> None:
    """Raises `InputError` unless ``seed`` is a whole number of 0 or more."""
    if isinstance(seed, bool) or not (isinstance(seed, Integral) and int(seed) >= 0):
        raise InputError(f"seed={seed!r} must be a whole number of 0 or more")


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """``value`` if it is one of ``allowed``. Raises `InputError` that lists them."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name}={value!r} is unknown: choose one of {', '.join(allowed)}")
    return value


def targets(names: Sequence[str], values: Sequence[Any]) -> tuple[tuple[Array, ...], tuple[int, ...]]:
    """Points to predict at: one flat float array per variable, and their common shape (() for scalars)."""
    if len(values) != len(names):
        raise InputError(f"expected {len(names)} value(s) ({', '.join(names)}), got {len(values)}")
    for name, v in zip(names, values, strict=True):
        if np.ma.is_masked(v):
            raise InputError(f"{name} has masked entries: ask at the others alone")
    try:
        arrays = np.broadcast_arrays(*[np.asarray(v) for v in values])
    except ValueError:
        raise InputError(
            f"{', '.join(names)}: shapes do not fit together; pass scalars or arrays of one shape"
        ) from None
    flat = [positive(name, v.ravel()) if v.size else np.empty(0) for name, v in zip(names, arrays, strict=True)]
    return tuple(flat), arrays[0].shape


def positive_flops(flops: Any) -> Array:
    """Budgets in FLOP as a float array of any shape, finite and above 0. Raises `InputError`."""
    (flat,), shape = targets(("flops",), (flops,))
    if flat.size == 0:
        raise InputError("flops is empty: give a budget")
    return flat.reshape(shape)

"""One text under two vocabularies: what may be compared, and by which yardstick.

Nats per token are of a token, and the larger vocabulary's tokens are longer: its losses are higher whatever the models
do. Bits per byte are of the text, so they may be compared, if both were measured on the same part of it; but at equal
what? A larger vocabulary reads more text with each token and pays more for each in its output layer, so equal tokens,
equal text and equal training FLOPs are three questions with three answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import FAINT, Row, plot_intervals
from scaling_lib.words import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.9
EQUAL: dict[str, tuple[str, Callable[[Run], float]]] = {  # its unit, and how much of it a run spent
    "tokens": ("tokens", lambda r: r.counts["n_tokens"]),
    "text": ("bytes", lambda r: r.counts["n_tokens"] * bytes_per_token(r)),
    "training FLOPs": ("FLOPs", lambda r: r.counts["flops"]),
}
Shape = tuple[int, int, int, int]  # width, layers, heads, window


def bytes_per_token(run: Run) -> float:
    """Bytes of validation text in a token, as the record's loss and bits per byte say."""
    if not run.bits_per_byte or not run.val_loss:
        raise InputError(f"run {run.run_id} has no bits per byte: train it again with this version")
    return run.val_loss / math.log(2) / run.bits_per_byte


@dataclass(frozen=True)
class Cell:
    """Two vocabularies at one layer shape and at equal tokens, text or FLOPs: bits per byte, mean over seeds.

    at : float, how much of what ``equal`` names, the most that both reached. seeds : pairs of runs.
    first, second : bits per byte. low, high : 90% interval of ``second / first - 1``, with the noise of all cells.
    """

    shape: str
    equal: str
    at: float
    seeds: int
    first: float
    second: float
    change: float
    low: float
    high: float


@dataclass(frozen=True)
class Tokenizers:
    """A comparison made by `compare_tokenizers`. ``vocabularies``, ``bytes_per_token``, ``nats``, ``shares`` : (2,).

    nats : loss per token of the largest shape's longest runs; shares : of that shape's parameters, embeddings (of
    tokens and positions); read : of the validation text, what losses were measured on.
    """

    vocabularies: tuple[int, int]
    bytes_per_token: tuple[float, float]
    nats: tuple[float, float]
    shares: tuple[float, float]
    read: tuple[float, float]
    cells: tuple[Cell, ...]

    @property
    def caveat(self) -> str:
        """What the intervals leave out where a part of the validation text stood for the whole; else empty."""
        if min(self.read) >= 1:
            return ""
        x, y = (f"{100 * share:.3g}%" for share in self.read)
        return (
            f"Losses were measured on {x} and {y} of the validation text, and not on the same bytes of it: that "
            "uncertainty is in no interval here (--mode tokenizers measures on all of it)."
        )

    def summary(self) -> str:
        """The three questions with their answers, a row for each shape. Plain text."""
        (a, b), (x, y) = (f"{v:,}" for v in self.vocabularies), self.bytes_per_token
        rows = [
            {**asdict(c), "amount": f"{short(c.at) if c.at < 1e10 else f'{c.at:.2g}'} {EQUAL[c.equal][0]}",
             "between": f"{c.low:+.1%} to {c.high:+.1%}" if math.isfinite(c.low) else "one seed: none"}
            for c in self.cells
        ]  # fmt: skip
        columns = {"model": "{shape}", "at equal": "{equal}", "": "{amount}", a: "{first:.3f}", b: "{second:.3f}",
                   "change": "{change:+.1%}", "90% interval": "{between}"}  # fmt: skip
        text = (
            f"One text under two vocabularies: {a} ({x:.2f} bytes per token) and {b} ({y:.2f})\n"
            f"nats per token, {self.nats[0]:.3f} and {self.nats[1]:.3f} at the largest shape, may not be compared; "
            f"bits per byte may:\n{table(rows, columns)}\n"
            f"Embeddings are {self.shares[0]:.0%} and {self.shares[1]:.0%} of the largest shape's parameters: only the "
            "count without them is the same."
        )
        return f"{text}\n{self.caveat}" if self.caveat else text


def compare_tokenizers(first: Sequence[Run], second: Sequence[Run]) -> Tokenizers:
    """Compare runs of one text and recipe under two vocabularies in bits per byte, paired by seed.

    At each layer shape that both trained, at the most tokens, text and FLOPs that both reached; where the shortest run
    of the one is beyond the longest of the other, that question has no answer and no cell. Between two lengths of
    a ladder ln loss is taken as linear in ln of what was spent.

    Raises InputError for two texts or recipes, one vocabulary, no shape and seed in common.
    """
    both = [*first, *second]
    if len({str(r.corpus["fingerprint"]) for r in both}) > 1:
        raise InputError("bits per byte compare on one text, and these runs read two")
    if len(recipes := {r.config.train.recipe for r in both}) > 1:
        raise InputError(f"one recipe is compared, not {', '.join(sorted(recipes))}: name it with --recipe")
    vocabularies = [{r.config.model.vocab_size for r in runs} for runs in (first, second)]
    if max(map(len, vocabularies)) > 1 or vocabularies[0] == vocabularies[1]:
        raise InputError("two sweeps with one vocabulary each, and not the same, are compared")
    ladders = [_ladders(runs) for runs in (first, second)]
    shared = sorted(set(ladders[0]) & set(ladders[1]))
    if not shared:
        raise InputError(
            "no layer shape, window and seed was trained under both vocabularies: train both with one mode"
        )
    shapes = [
        [[ladder[key] for ladder in ladders] for key in shared if key[0] == shape]
        for shape in dict.fromkeys(shape for shape, _ in shared)
    ]
    cells = [cell for equal in EQUAL for cell in _cells(equal, shapes)]
    if not cells:
        raise InputError("the one vocabulary begins where the other ends: train the other for longer")
    a, b = (ladder[shared[-1]][-1] for ladder in ladders)  # the largest shape's longest runs
    return Tokenizers(
        vocabularies=(a.config.model.vocab_size, b.config.model.vocab_size),
        bytes_per_token=(bytes_per_token(a), bytes_per_token(b)),
        nats=(float(a.val_loss or math.nan), float(b.val_loss or math.nan)),
        shares=(_share(a), _share(b)),
        read=(_read(first), _read(second)),
        cells=tuple(cells),
    )


def _ladders(runs: Sequence[Run]) -> dict[tuple[Shape, int], list[Run]]:
    """Finished runs of each shape and seed, shortest first."""
    found: dict[tuple[Shape, int], list[Run]] = {}
    for r in sorted((r for r in runs if r.finished), key=lambda r: r.config.n_tokens):
        m = r.config.model
        found.setdefault(((m.d_model, m.n_layer, m.n_head, m.seq_len), r.config.train.seed), []).append(r)
    return found


def _share(run: Run) -> float:
    return 1 - run.counts["n_params_non_embedding"] / run.counts["n_params"]


def _read(runs: Sequence[Run]) -> float:
    """The least share of the validation tokens that a run's loss was measured on; the last window may be cut short."""
    return min(
        min(1.0, r.config.train.eval_tokens / max(r.corpus["n_val_tokens"] - r.config.model.seq_len, 1)) for r in runs
    )


def _cells(equal: str, shapes: Sequence[Sequence[Sequence[Sequence[Run]]]]) -> list[Cell]:
    """The answers to one question. ``shapes`` : of each shape the pairs of ladders, one pair a seed.

    Few seeds at a shape say little about their noise; the shapes together say more.
    """
    spent, made = EQUAL[equal][1], []
    for pairs in shapes:
        at = min(max(spent(r) for r in runs) for pair in pairs for runs in pair)
        bits = np.array([[_bits_at(runs, spent, at) for runs in pair] for pair in pairs])
        if np.all(np.isfinite(bits)):
            made.append((pairs[0][0][0].config.model.name, at, bits, np.log(bits[:, 1] / bits[:, 0])))
    dof = sum(len(x) - 1 for *_, x in made)
    squares = sum(float(np.sum((x - x.mean()) ** 2)) for *_, x in made)
    wide = float(special.stdtrit(dof, 0.5 + LEVEL / 2)) * math.sqrt(squares / dof) if dof else math.nan
    cells = []
    for shape, at, bits, x in made:
        half = wide / math.sqrt(len(x))
        change, low, high = (math.expm1(float(x.mean()) + s) for s in (0.0, -half, half))
        first, second = bits.mean(axis=0).tolist()
        cells.append(Cell(shape, equal, at, len(x), first, second, change, low, high))
    return cells


def _bits_at(ladder: Sequence[Run], spent: Callable[[Run], float], at: float) -> float:
    """Bits per byte at ``at``; NaN where the ladder begins beyond it."""
    x = np.log([spent(r) for r in ladder])
    bits = np.log([float(r.bits_per_byte or math.nan) for r in ladder])
    return float(np.exp(np.interp(math.log(at), x, bits))) if math.log(at) >= x[0] - 1e-9 else math.nan


def plot_tokenizers(found: Tokenizers, axes: Axes | None = None) -> Axes:
    """Draw the change in bits per byte at each shape by each yardstick, with its 90% interval."""
    rows = [Row(f"{c.shape}, {c.equal}", 100 * c.change, 100 * c.low, 100 * c.high) for c in found.cells]
    axes = plot_intervals(rows, axes)
    axes.axvline(0, color=FAINT, linestyle=":", linewidth=1.2)
    a, b = found.vocabularies
    axes.set_xlabel(f"bits per byte, {b:,} against {a:,} (%)")
    axes.set_title("At equal tokens, text, FLOPs", fontsize="medium")
    return axes

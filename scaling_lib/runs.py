"""Run records: one JSON file per training run. Write, read, validate, and line them up in a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scaling_lib.config import RunConfig, TrainConfig, digest, model_fields, model_from_fields
from scaling_lib.counting import count_parameters, flops_6nd, training_flops
from scaling_lib.errors import InputError
from scaling_lib.files import write_atomically

SCHEMA = 1
STATUSES = ("finished", "diverged")


@dataclass(frozen=True)
class Point:
    """One row of a history, after ``step`` updates.

    ``train_loss`` is the mean over the steps since the row before (at step 0: the first batch, before any
    update); ``val_loss`` is None where it was not measured. Losses are nats per token; a loss that was not a
    finite number is None.
    """

    step: int
    n_tokens: int
    lr: float
    train_loss: float | None
    val_loss: float | None = None


@dataclass(frozen=True)
class Run:
    """What one training run was and what came of it.

    ``val_loss_se`` is the standard error of the validation loss clustered by document. It says how well this
    model's loss is known, not how much the loss would vary from seed to seed: the validation set is shared.
    """

    run_id: str
    status: str
    config: RunConfig
    corpus: dict[str, Any]
    history: tuple[Point, ...]
    val_loss: float | None
    val_loss_se: float | None
    bits_per_byte: float | None
    epochs: float
    environment: dict[str, Any]
    seconds: float
    tokens_per_second: float
    notes: tuple[str, ...] = ()
    counts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise InputError(f"run {self.run_id}: unknown status {self.status!r}; it is one of {', '.join(STATUSES)}")
        if not self.counts:
            object.__setattr__(self, "counts", counts_of(self.config))

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def more_than_one_epoch(self) -> bool:
        """True where training saw some text twice: such a run measures something else (Muennighoff 2023)."""
        return self.epochs > 1.0

    @property
    def first_loss(self) -> float | None:
        """Training loss of the first batch before any update: ln(vocab_size) for a fresh model."""
        return self.history[0].train_loss if self.history else None


def counts_of(config: RunConfig) -> dict[str, float]:
    """Parameters, tokens and FLOPs of a run in every convention of ``scaling_lib.counting``."""
    n = count_parameters(config.model)
    tokens = config.n_tokens
    return {
        "n_params": n.total,
        "n_params_non_embedding": n.non_embedding,
        "n_params_with_head": n.with_head,
        "n_tokens": tokens,
        "flops": training_flops(config.model, tokens),
        "flops_6nd": flops_6nd(n.non_embedding, tokens),
        "flops_6nd_total": flops_6nd(n.total, tokens),
        "tokens_per_param": tokens / n.non_embedding,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _to_json(run: Run) -> dict[str, Any]:
    data = {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "status": run.status,
        "model": model_fields(run.config.model),
        "train": asdict(run.config.train),
        "corpus_spec": run.config.corpus,
        "corpus": run.corpus,
        "counts": run.counts,
        # Columns, not rows: a third of the size, and what a plot wants.
        "history": {
            "step": [p.step for p in run.history],
            "n_tokens": [p.n_tokens for p in run.history],
            "lr": [p.lr for p in run.history],
            "train_loss": [_finite(p.train_loss) for p in run.history],
            "val_loss": [_finite(p.val_loss) for p in run.history],
        },
        "val_loss": _finite(run.val_loss),
        "val_loss_se": _finite(run.val_loss_se),
        "bits_per_byte": _finite(run.bits_per_byte),
        "epochs": run.epochs,
        "environment": run.environment,
        "seconds": run.seconds,
        "tokens_per_second": run.tokens_per_second,
        "notes": list(run.notes),
    }
    return {**data, "sha256": digest(data)}


def _from_json(data: dict[str, Any]) -> Run:
    columns = data["history"]
    rows = zip(*(columns[k] for k in ("step", "n_tokens", "lr", "train_loss", "val_loss")), strict=True)
    config = RunConfig(model_from_fields(data["model"]), TrainConfig(**data["train"]), data["corpus_spec"])
    return Run(
        config=config,
        history=tuple(Point(*row) for row in rows),
        notes=tuple(data["notes"]),
        **{
            key: data[key]
            for key in (
                "run_id", "status", "corpus", "val_loss", "val_loss_se", "bits_per_byte", "epochs",
                "environment", "seconds", "tokens_per_second", "counts",
            )
        },
    )  # fmt: skip


def write_run(run: Run, folder: Path) -> Path:
    """Write a record as ``folder/<run_id>.json``, whole or not at all. Returns the path."""
    path = folder / f"{run.run_id}.json"
    text = json.dumps(_to_json(run), indent=1, ensure_ascii=False, allow_nan=False)
    # One history column per line: short files, and a diff that a person can read.
    write_atomically(path, (_join_number_lists(text) + "\n").encode())
    return path


def _join_number_lists(text: str) -> str:
    out: list[str] = []
    inside = False
    for line in text.split("\n"):
        if inside:
            out[-1] += line.strip() + (" " if line.rstrip().endswith(",") and line.strip() != "]," else "")
            inside = line.strip() not in ("]", "],")
        else:
            out.append(line)
            inside = line.endswith("[")
    return "\n".join(out)


def read_run(path: Path) -> Run:
    """Read and validate one record.

    Raises
    ------
    InputError
        When the file is truncated or not a record, of a newer schema, or its ``sha256`` does not fit.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, too long a number, too deep
        raise InputError(
            f"{path}: not a whole JSON file ({error}); delete it and the sweep will run that cell again"
        ) from error
    if not isinstance(data, dict) or "schema" not in data or "run_id" not in data:
        raise InputError(f"{path}: not a run record (no 'schema' and 'run_id'); move it out of the folder")
    if not isinstance(data["schema"], int) or data["schema"] > SCHEMA:
        raise InputError(
            f"{path}: schema {data['schema']} is newer than {SCHEMA}, the newest known; update scaling_lib"
        )
    claimed = data.pop("sha256", None)
    try:
        fits = claimed == digest(data)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"{path}: sha256 does not fit the content, so it was changed after it was written; "
            "restore it or delete it and run that cell again"
        )
    try:
        return _from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a valid run record ({error}); delete it and run that cell again") from error


def read_runs(folder: Path) -> list[Run]:
    """Read every record of a sweep's folder, smallest model first, then by tokens, recipe and seed.

    Raises
    ------
    InputError
        When the folder is missing or holds no record, or one of them is invalid (see ``read_run``).
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of run records; a sweep writes one, for example runs/demo")
    paths = sorted(p for p in folder.glob("*.json") if not p.name.startswith(".") and p.name not in NOT_RECORDS)
    if not paths:
        raise InputError(f"{folder}: holds no run records (*.json); run a sweep first")
    runs = [read_run(path) for path in paths]
    return sorted(
        runs,
        key=lambda r: (
            r.counts["n_params_non_embedding"],
            r.counts["n_tokens"],
            r.config.train.recipe,
            r.config.train.seed,
        ),
    )


def shipped(sweep: str) -> list[Run]:
    """Read a sweep of the repository's ``results`` folder, such as ``shipped("v1-to-v2")``, from wherever you are.

    Raises
    ------
    InputError
        When there is no such sweep: the records come with the repository, not with the installed package alone.
    """
    return read_runs(Path(__file__).resolve().parents[1] / "results" / sweep)


NOT_RECORDS = ("sweep.json", "SUMMARY.json")


def table(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Line runs up in columns: name -> array with one entry per run. A missing number is NaN.

    Columns: run_id, recipe, seed, status, n_layer, d_model, max_steps, lr, every count, val_loss,
    val_loss_se, bits_per_byte, epochs, seconds.
    """
    rows = list(runs)
    nan = float("nan")
    columns: dict[str, list[Any]] = {
        "run_id": [r.run_id for r in rows],
        "recipe": [r.config.train.recipe for r in rows],
        "seed": [r.config.train.seed for r in rows],
        "status": [r.status for r in rows],
        "n_layer": [r.config.model.n_layer for r in rows],
        "d_model": [r.config.model.d_model for r in rows],
        "max_steps": [r.config.train.max_steps for r in rows],
        "lr": [r.config.train.lr for r in rows],
    }
    for name in rows[0].counts if rows else {}:
        columns[name] = [float(r.counts[name]) for r in rows]
    for name in ("val_loss", "val_loss_se", "bits_per_byte"):
        columns[name] = [nan if getattr(r, name) is None else getattr(r, name) for r in rows]
    columns["epochs"] = [r.epochs for r in rows]
    columns["seconds"] = [r.seconds for r in rows]
    return {name: np.array(values) for name, values in columns.items()}


def check_poolable(runs: Iterable[Run]) -> None:
    """Refuse to pool runs whose losses may not be compared.

    Raises
    ------
    InputError
        When two runs read different texts (fingerprint), use different vocabularies or windows, or are models
        of different kinds (positions, token shift).
    """
    rows = list(runs)
    nats = "nats per token compare only within one text and one tokenizer; fit them apart, or use bits per byte"
    other = "it changes the law itself; fit them apart"
    for what, why, key in (
        ("corpus fingerprint", nats, lambda r: str(r.corpus["fingerprint"])[:12]),
        ("vocabulary", nats, lambda r: r.config.model.vocab_size),
        ("window length (seq_len)", other, lambda r: r.config.model.seq_len),
        ("kind of positions", other, lambda r: kind_of_model(r.config)),
    ):
        seen = sorted({key(r) for r in rows})
        if len(seen) > 1:
            raise InputError(f"runs of more than one {what} ({', '.join(map(str, seen))}) cannot be pooled: {why}")


def kind_of_model(config: RunConfig) -> str:
    """The positions of a run's model, in words: ``rotary``, ``learned``, perhaps with the token shift."""
    model = config.model
    return model.positions + (" and token shift" if model.token_shift else "")

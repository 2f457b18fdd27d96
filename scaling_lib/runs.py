"""Run records: one JSON object per training run, in a file of its own or one a line. Write, read, validate."""

import functools
import json
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from scaling_lib.config import RunConfig, TrainConfig, digest, model_fields, model_from_fields
from scaling_lib.counting import count_parameters, flops_6nd, training_flops
from scaling_lib.errors import InputError
from scaling_lib.files import content_of, write_atomically

SCHEMA = 1
STATUSES = ("finished", "diverged")
PACKED = "runs.jsonl"
NOT_RECORDS = ("sweep.json", "SUMMARY.json")
RESULTS = Path(__file__).resolve().parents[1] / "results"  # the committed sweeps, where the repository is at hand


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


COLUMNS = ("step", "n_tokens", "lr", "train_loss", "val_loss")  # of a history
MEASURED = ("val_loss", "val_loss_se", "bits_per_byte", "epochs", "environment", "seconds", "tokens_per_second")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        "history": {name: [_finite(getattr(p, name)) for p in run.history] for name in COLUMNS},
        **{name: _finite(getattr(run, name)) for name in MEASURED},
        "notes": list(run.notes),
    }
    return {**data, "sha256": digest(data)}


def _from_json(data: dict[str, Any]) -> Run:
    rows = zip(*(data["history"][name] for name in COLUMNS), strict=True)
    config = RunConfig(model_from_fields(data["model"]), TrainConfig(**data["train"]), data["corpus_spec"])
    same = {name: data[name] for name in ("run_id", "status", "corpus", "counts", *MEASURED)}
    return Run(config=config, history=tuple(Point(*row) for row in rows), notes=tuple(data["notes"]), **same)


def write_run(run: Run, folder: Path) -> Path:
    """Write a record as ``folder/<run_id>.json``, whole or not at all. Returns the path."""
    path = folder / f"{run.run_id}.json"
    text = json.dumps(_to_json(run), indent=1, ensure_ascii=False, allow_nan=False)
    # One history column per line: short files, and a diff that a person can read. No string holds a line break.
    text = re.sub(r"\[\n\s*([^][{}]*?)\n\s*\]", lambda found: "[" + re.sub(r"\n\s*", " ", found[1]) + "]", text)
    write_atomically(path, f"{text}\n".encode())
    return path


class DamagedRecord(InputError):
    """A record that is not what was written: cut short, or changed on the disk or by hand."""


class Record(NamedTuple):
    """A record as it stands in a file: the run, the JSON it was read from, and where that is."""

    run: Run
    data: dict[str, Any]
    where: str


def _parse(text: bytes, path: Path, line: int = 0) -> Record:
    """Read and check the JSON text of one record: of a file, or of a line of a file of several."""
    where, unit, mend = str(path), "file", "delete the file to run that cell again"
    if line:
        where, unit = f"{path}, line {line}", "line"
        mend = (
            "the other lines are not used without it, since no figure or number would show that a run is missing: "
            "restore the line, or delete it to do without that run"
        )
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, too long a number, too deep
        raise DamagedRecord(f"{where}: not a whole JSON {unit} ({error}); {mend}") from error
    if not isinstance(data, dict) or not {"schema", "run_id", "sha256"} & data.keys():
        raise InputError(f"{where}: not a run record (no 'schema' and 'run_id'); move the {unit} out of the folder")
    try:
        fits = data.get("sha256") == digest({key: value for key, value in data.items() if key != "sha256"})
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise DamagedRecord(f"{where}: sha256 does not fit the content: it was changed after it was written; {mend}")
    if not isinstance(data.get("schema"), int) or data["schema"] > SCHEMA:
        raise InputError(
            f"{where}: schema {data.get('schema')} is newer than {SCHEMA}, the newest known; update scaling_lib"
        )
    try:
        return Record(_from_json(data), data, where)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: not a valid run record ({error}); {mend}") from error


def _record(path: Path) -> Record | None:
    """The record that a file holds, or None where there is no such file."""
    text = content_of(path)
    return None if text is None else _parse(text, path)


def read_run(path: Path) -> Run:
    """Read and validate one record's file.

    Raises
    ------
    InputError
        When the file is missing, truncated or not a record, of a newer schema, or its ``sha256`` does not fit.
    """
    if (found := _record(path)) is None:
        raise InputError(f"cannot read {path}: no such file")
    return found.run


def set_aside_damaged(folder: Path, run_ids: Iterable[str]) -> list[Path]:
    """Rename the damaged records among these runs' files to ``NAME.json.damaged``; returns the new paths.

    What a folder's ``runs.jsonl`` holds is left as it is, and refused by those who read it.
    """
    moved = []
    for path in (folder / f"{name}.json" for name in run_ids):
        try:
            _record(path)
        except DamagedRecord:
            moved.append(path.replace(path.with_name(f"{path.name}.damaged")))
    return moved


def record_files(folder: Path) -> list[Path]:
    """The files of a folder that hold one record each."""
    return sorted(p for p in folder.glob("*.json") if not p.name.startswith(".") and p.name not in NOT_RECORDS)


def packed_records(folder: Path) -> list[Record]:
    """The records of a folder's ``runs.jsonl``; none where there is no such file."""
    path = folder / PACKED
    lines = (content_of(path) or b"").split(b"\n")
    return [_parse(line, path, i) for i, line in enumerate(lines, 1) if line.strip()]


def has_records(folder: Path) -> bool:
    """Whether a folder holds records of either form, without reading them."""
    return bool(record_files(folder)) or (folder / PACKED).exists()


def read_records(folder: Path) -> list[Record]:
    """Read every record of a folder as it stands in its file, in the order of ``read_runs``, which raises the same.

    A record that stands there twice is read once. Of two files one is a copy, such as those that synchronising folders
    makes, and a warning names it; one alone and one packed are what a packing leaves that was interrupted.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of run records; a sweep writes one, for example runs/demo")
    found: dict[str, Record] = {}
    # Single files before the packed ones: a file that vanishes between listing and reading has been packed.
    single = [record for path in record_files(folder) if (record := _record(path))]
    for record in [*single, *packed_records(folder)]:
        first = found.setdefault(record.run.run_id, record)
        if first.data["sha256"] != record.data["sha256"]:
            raise InputError(
                f"{first.where} and {record.where} are two records of the run {record.run.run_id}, and they differ; "
                "delete one of them"
            )
        if first is not record and not record.where.startswith(f"{folder / PACKED}, "):
            copy = max(first.where, record.where, key=len)
            warnings.warn(f"{copy} is a copy of another record of its run and not counted; delete it", stacklevel=2)
    if not found:
        raise InputError(f"{folder}: holds no run records (*.json or {PACKED}); run a sweep first")

    def place(record: Record) -> tuple[float, float, str, int, str]:
        run, train = record.run, record.run.config.train
        return run.counts["n_params_non_embedding"], run.counts["n_tokens"], train.recipe, train.seed, run.run_id

    return sorted(found.values(), key=place)


def read_runs(folder: Path) -> list[Run]:
    """Read every record of a sweep's folder, smallest model first, then by tokens, recipe and seed.

    Records stand in ``<run_id>.json``, as a sweep writes them, or one a line in ``runs.jsonl``, as ``sweep.pack``
    leaves them; a folder may hold both.

    Raises
    ------
    InputError
        When the folder is missing or holds no record, one of them is invalid (see ``read_run``), or two records of
        one run differ.
    """
    return [record.run for record in read_records(folder)]


@functools.lru_cache(maxsize=4)
def _packed(folder: Path, stamp: tuple[int, ...]) -> dict[str, Run]:
    return {record.run.run_id: record.run for record in packed_records(folder)}


def find_run(folder: Path, run_id: str) -> Run | None:
    """The run of that name in a folder, or None while it has no record there. Raises as ``read_run`` does."""
    if found := _record(folder / f"{run_id}.json"):  # its own file first: one that vanishes has been packed by then
        return found.run
    try:
        state = (folder / PACKED).stat()
    except FileNotFoundError:
        return None
    return _packed(folder, (state.st_mtime_ns, state.st_size, state.st_ino)).get(run_id)


def is_recorded(folder: Path, run_id: str) -> bool:
    """Whether a run has a record in the folder; cheap enough to ask for each run of a sweep twice a second."""
    return (folder / f"{run_id}.json").exists() or find_run(folder, run_id) is not None


def shipped(sweep: str) -> list[Run]:
    """Read a sweep of the repository's ``results`` folder, such as ``shipped("v1-to-v2")``, from wherever you are.

    Raises
    ------
    InputError
        When there is no such sweep: the records come with the repository, not with the installed package alone.
    """
    return read_runs(RESULTS / sweep)


def check_poolable(runs: Iterable[Run]) -> None:
    """Refuse to pool runs whose losses may not be compared.

    Raises
    ------
    InputError
        When two runs read different texts (fingerprint), use different vocabularies or windows, or are models
        of different kinds (positions, token shift).
    """
    rows = list(runs)

    def kind(run: Run) -> str:
        model = run.config.model
        return model.positions + (" and token shift" if model.token_shift else "")

    nats = "nats per token compare only within one text and one tokenizer; fit them apart, or use bits per byte"
    other = "it changes the law itself; fit them apart"
    for what, why, key in (
        ("corpus fingerprint", nats, lambda r: str(r.corpus["fingerprint"])[:12]),
        ("vocabulary", nats, lambda r: r.config.model.vocab_size),
        ("window length (seq_len)", other, lambda r: r.config.model.seq_len),
        ("kind of positions", other, kind),
    ):
        seen = sorted({key(r) for r in rows})
        if len(seen) > 1:
            raise InputError(f"runs of more than one {what} ({', '.join(map(str, seen))}) cannot be pooled: {why}")

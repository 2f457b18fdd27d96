"""What is trained: the frozen configuration of one run, checked once where it is made, and the run's name."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from scaling_lib.errors import InputError

# A byte-level vocabulary needs the 256 bytes and an end-of-document token; token ids are stored as uint16.
MIN_VOCAB, MAX_VOCAB = 257, 65_535
SCHEDULES = ("constant", "cosine", "wsd")
POSITIONS = ("rotary", "learned")


def _require(what: str, rules: dict[str, bool]) -> None:
    """Raise InputError with the first message whose rule does not hold."""
    for message, holds in rules.items():
        if not holds:
            raise InputError(f"{what}: {message}")


def _number(owner: object, name: str, *, whole: bool, zero: bool = False) -> tuple[str, bool]:
    """The rule that a field is a number above 0, or with ``zero`` at least 0."""
    value = getattr(owner, name)
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    kind = ("whole" if whole else "finite") + (" number of at least 0" if zero else " number above 0")
    holds = number and math.isfinite(value) and (value > 0 or (zero and value == 0))
    return f"{name} must be a {kind}, not {value!r}", holds


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT with tied embeddings.

    ``positions`` are ``"rotary"`` (queries and keys are rotated; no parameters) or ``"learned"`` (GPT-2's
    table, one vector a place). With ``token_shift`` each embedding has a learned multiple of the one before it
    added, channel by channel.

    Raises
    ------
    InputError
        When a number is not a positive whole one, ``n_head`` does not divide ``d_model``, ``vocab_size`` is
        outside 257..65,535, ``positions`` is unknown, or heads of odd width are to be rotated.
    """

    n_layer: int
    n_head: int
    d_model: int
    vocab_size: int
    seq_len: int
    positions: str = "rotary"
    token_shift: bool = True

    def __post_init__(self) -> None:
        names = ("n_layer", "n_head", "d_model", "vocab_size", "seq_len")
        _require("model", dict(_number(self, name, whole=True) for name in names))
        rules = {
            f"unknown positions {self.positions!r}; choose from {', '.join(POSITIONS)}": self.positions in POSITIONS,
            f"token_shift must be true or false, not {self.token_shift!r}": isinstance(self.token_shift, bool),
            f"n_head {self.n_head} does not divide d_model {self.d_model}; choose a divisor": (
                self.d_model % self.n_head == 0
            ),
            f"vocab_size {self.vocab_size:,} is outside {MIN_VOCAB}..{MAX_VOCAB:,} "
            "(256 bytes and one end-of-document token at least; ids must fit 16 bits)": (
                MIN_VOCAB <= self.vocab_size <= MAX_VOCAB
            ),
            f"heads of width {self.d_model // self.n_head} cannot be rotated, since rotation pairs their channels; "
            "choose an even d_model / n_head": self.positions == "learned" or self.d_model // self.n_head % 2 == 0,
        }
        _require("model", rules)

    @property
    def name(self) -> str:
        return f"{self.n_layer}x{self.d_model}"


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. ``recipe`` is a label; the other fields say what it means.

    ``lr`` is the peak rate. ``schedule`` is ``constant``, ``cosine`` (to zero at ``max_steps``) or ``wsd``
    (constant, then linear to zero over the last ``decay_steps``); all begin with ``warmup_steps`` of linear
    warm-up, 0 for none. ``weight_decay`` acts on matrices only, as is usual. The final loss is measured on
    ``eval_tokens`` validation tokens. ``seed`` sets the initial weights and the order of the data.
    """

    recipe: str
    max_steps: int
    batch_size: int
    lr: float
    schedule: str
    warmup_steps: int = 0
    decay_steps: int = 0
    weight_decay: float = 0.0
    seed: int = 0
    beta1: float = 0.9
    beta2: float = 0.95  # 0.999 averages over 1,000 steps: longer than some of our runs
    grad_clip: float = 1.0
    eval_tokens: int = 65_536

    def __post_init__(self) -> None:
        word = self.recipe.replace("-", "").replace("_", "") if isinstance(self.recipe, str) else ""
        counts = [_number(self, name, whole=True) for name in ("max_steps", "batch_size", "eval_tokens")]
        counts += [_number(self, name, whole=True, zero=True) for name in ("warmup_steps", "decay_steps", "seed")]
        sizes = [_number(self, name, whole=False) for name in ("lr", "grad_clip")]
        sizes += [_number(self, name, whole=False, zero=True) for name in ("weight_decay", "beta1", "beta2")]
        named = (f"recipe must be a word of letters, digits, - and _, not {self.recipe!r}", word.isalnum())
        _require("training", dict([named, *counts, *sizes]))
        rules = {
            f"beta1 must be below 1, not {self.beta1!r}": self.beta1 < 1,
            f"beta2 must be below 1, not {self.beta2!r}": self.beta2 < 1,
            f"unknown schedule {self.schedule!r}; choose from {', '.join(SCHEDULES)}": self.schedule in SCHEDULES,
            f"warmup_steps {self.warmup_steps} + decay_steps {self.decay_steps} exceed max_steps {self.max_steps}; "
            "train longer or shorten them": self.warmup_steps + self.decay_steps <= self.max_steps,
        }
        _require("training", rules)

    @property
    def decay_start(self) -> int:
        """The step at which ``wsd`` begins to decay: up to here, runs of one model share one trunk."""
        return self.max_steps - self.decay_steps


@dataclass(frozen=True)
class RunConfig:
    """One cell of a sweep: a model, its training, and the corpus it reads (such as ``python-stdlib``)."""

    model: ModelConfig
    train: TrainConfig
    corpus: str

    @property
    def n_tokens(self) -> int:
        """Tokens processed in training: steps x batch x sequence length."""
        return self.train.max_steps * self.train.batch_size * self.model.seq_len


def digest(data: Any, length: int = 64) -> str:
    """SHA-256 in hex of plain JSON data, independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def model_fields(model: ModelConfig) -> dict[str, Any]:
    """The model as plain data, without what a record from before these switches did not say.

    Such a record means learned positions and no token shift, and keeps its name.
    """
    data = asdict(model)
    if model.positions == "learned":
        del data["positions"]
    if not model.token_shift:
        del data["token_shift"]
    return data


def model_from_fields(data: dict[str, Any]) -> ModelConfig:
    """The inverse of ``model_fields``; raises TypeError for an unknown field, InputError for a bad value."""
    return ModelConfig(**{"positions": "learned", "token_shift": False, **data})


def run_id(config: RunConfig, fingerprint: str) -> str:
    """Name a run: a readable slug and a hash of model, training, vocabulary and corpus fingerprint.

    Device, dtype and threads are recorded but do not name a run: the same experiment elsewhere is that run.
    """
    identity = {"model": model_fields(config.model), "train": asdict(config.train), "corpus": fingerprint}
    train = config.train
    return f"{train.recipe}-{config.model.name}-s{train.max_steps}-r{train.seed}-{digest(identity, 10)}"


def trunk_id(config: RunConfig, fingerprint: str) -> str:
    """Name the trunk of a ``wsd`` run: what it shares with longer and shorter runs of the same model."""
    train = {k: v for k, v in asdict(config.train).items() if k not in ("max_steps", "decay_steps", "eval_tokens")}
    identity = {"model": model_fields(config.model), "train": train, "corpus": fingerprint}
    return f"trunk-{config.model.name}-r{config.train.seed}-{digest(identity, 10)}"

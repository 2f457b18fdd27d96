"""The state of a training run on disk: written whole or not at all, read without unpickling objects."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from scaling_lib.files import atomic_file
from scaling_lib.lm.runtime import Runtime


@dataclass
class TrainState:
    """Where a run stands after ``step`` updates; all that is needed to go on exactly as if never stopped.

    ``losses`` holds the training loss of every update so far, float32 (step,); ``val`` the validation losses
    measured on the way, as (step, loss). Batches are a function of the step, so no generator state is kept.
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    losses: torch.Tensor
    val: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


def save_state(path: Path, state: TrainState, runtime: Runtime) -> None:
    """Write a checkpoint.

    Raises
    ------
    InputError
        When the disk is full or the folder cannot be written; an older checkpoint at ``path`` survives.
    """
    content = {
        "step": state.step,
        "model": state.model,
        "optimizer": state.optimizer,
        "losses": state.losses.cpu(),
        "val": [list(point) for point in state.val],
        "seconds": state.seconds,
        "runtime": runtime.as_dict(),
    }
    # Through memory: torch turns a failed write into an error of its own that hides the cause (a full disk).
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_file(path) as file:
        file.write(buffer.getbuffer())


def load_state(path: Path, device: str = "cpu") -> tuple[TrainState, Runtime] | None:
    """Read a checkpoint, or None where there is none that can be read: the run then starts over.

    ``weights_only=True``: the file can hold tensors and plain values only, so reading it runs no code.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        runtime = Runtime(**content.pop("runtime"))
        content["val"] = [(int(step), float(loss)) for step, loss in content["val"]]
        return TrainState(**content), runtime
    except FileNotFoundError:
        return None
    except Exception:  # torch raises many kinds for a damaged file; none of them is worth losing a sweep for
        return None

"""The state of a training run on disk: written whole or not at all, read without unpickling objects."""

import io
import warnings
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from scaling_lib.config import RunConfig, run_id, trunk_id
from scaling_lib.files import atomic_file
from scaling_lib.lm.group import Group
from scaling_lib.lm.runtime import Runtime, as_possible, choose_runtime


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
        **vars(state),
        "losses": state.losses.cpu(),
        "val": [list(point) for point in state.val],
        "runtime": runtime.as_dict(),
    }
    # Through memory: torch turns a failed write into an error of its own that hides the cause (a full disk).
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_file(path) as file:
        file.write(buffer.getbuffer())


def load_state(path: Path, device: str = "cpu") -> tuple[TrainState, Runtime] | None:
    """Read a checkpoint, or None where there is none that can be read: the run then starts over.

    ``weights_only=True``: the file can hold tensors and plain values only, so reading it runs no code. torch does not
    look at the checksums of the file, an archive: a flipped bit would change the weights in silence.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise ValueError(f"its part {bad} does not fit its checksum")
        content = torch.load(path, map_location=device, weights_only=True)
        runtime = Runtime(**content.pop("runtime"))
        content["val"] = [(int(step), float(loss)) for step, loss in content["val"]]
        return TrainState(**content), runtime
    except FileNotFoundError:
        return None
    except Exception as error:  # torch raises many kinds for a damaged file; none of them is worth losing a sweep for
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(f"{path} is damaged and not used ({reason})", stacklevel=2)
        return None


def own_path(folder: Path, config: RunConfig, fingerprint: str) -> Path:
    """Where a run keeps its own state."""
    return folder / f"{run_id(config, fingerprint)}.pt"


def trunk_path(folder: Path, config: RunConfig, fingerprint: str, step: int) -> Path:
    """Where the state of a shared trunk after ``step`` updates lies."""
    return folder / f"{trunk_id(config, fingerprint)}-{step}.pt"


def starting_point(
    config: RunConfig, fingerprint: str, runtime: Runtime | None, folder: Path | None, group: Group
) -> tuple[TrainState | None, Runtime, int]:
    """The run's own checkpoint, else the longest trunk that ends before this run's decay, else nothing.

    Returns the state, how to compute, and the step at which the run left a trunk (0: it did not). In a group the
    leader chooses, and where a process cannot read what it chose, all begin at the beginning.
    """
    wanted = as_possible(runtime or choose_runtime(config, processes=group.size))
    if folder is None:
        return None, wanted, 0
    for path, step in group.agree(_candidates(config, fingerprint, folder) if group.leads else None):
        found = load_state(path, wanted.device)
        if step:  # a trunk: shared only if computed alike
            found = found if found and found[1] == wanted else None
        if group.all_true(found is not None) and found is not None:
            if step:
                found[0].seconds = 0.0  # the shorter run has counted them
                return found[0], wanted, step
            # Computed as it was begun, but where we are: a shared folder's next machine may lack a GPU or a compiler.
            return found[0], as_possible(replace(found[1], device=wanted.device)), 0
    return None, wanted, 0


def _candidates(config: RunConfig, fingerprint: str, folder: Path) -> list[tuple[Path, int]]:
    """Files to start from, best first, with the step of a trunk and 0 for the run's own."""
    own = own_path(folder, config, fingerprint)
    found = [(own, 0)] if own.exists() else []
    if config.train.schedule == "wsd":
        stem = trunk_id(config, fingerprint)
        trunks = sorted((int(path.stem.rsplit("-", 1)[1]), path) for path in folder.glob(f"{stem}-*.pt"))
        found += [(path, step) for step, path in reversed(trunks) if 0 < step <= config.train.decay_start]
    return found

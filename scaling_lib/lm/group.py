"""Several processes that train one model together, each on its share of every batch, as torchrun starts them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch._dynamo
import torch.distributed as dist
from torch import Tensor, nn

from scaling_lib.errors import InputError

MEETING = timedelta(minutes=2)  # for all processes to start; one alone would wait for ever


@dataclass(frozen=True)
class Group:
    """This process's place among those that train one model. Of one process, nothing is exchanged."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's rows of a batch."""
        if len(rows) % self.size:
            raise InputError(f"a batch of {len(rows)} sequences does not divide among {self.size} processes")
        each = len(rows) // self.size
        return rows[self.rank * each : (self.rank + 1) * each]

    def loss_function(self, loss: Callable[..., Tensor], model: nn.Module) -> Callable[..., Tensor]:
        """``loss`` such that its gradients are averaged over the processes."""
        if self.size == 1:
            return loss
        device = next(model.parameters()).device
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(_LossOf(model, loss), device_ids=ids)

    def mean(self, value: Tensor) -> Tensor:
        """Average over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def all_true(self, flag: bool) -> bool:
        """Whether the flag is set in every process."""
        if self.size == 1:
            return flag
        flags: list[Any] = [None] * self.size
        dist.all_gather_object(flags, flag)
        return all(flags)

    def agree(self, value: Any) -> Any:
        """The leader's value, in every process; plain data."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


class _LossOf(nn.Module):
    """DistributedDataParallel averages the gradients of what runs through ``forward``."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self._loss(x, y)


ALONE = Group()


def join_group(device: str) -> Group:
    """Meet the other processes: over NCCL on GPUs, one each, and over Gloo elsewhere.

    Raises
    ------
    InputError
        When the environment does not say where they are, as torchrun's does.
    """
    try:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        store, rank, size = next(dist.rendezvous("env://", timeout=MEETING))
        store.set(f"here-{rank}", "")
        store.wait([f"here-{other}" for other in range(size)], MEETING)
        # The leader may wait long for a lock or a corpus while the others wait for it.
        store.set_timeout(timedelta(days=7))
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timedelta(days=7))
    except (ValueError, dist.DistError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the other processes cannot be met ({reason}): start all of them with torchrun") from error
    torch._dynamo.config.optimize_ddp = False  # it would cut a compiled step into parts, and ours is small
    return Group(dist.get_rank(), dist.get_world_size())


def leave_group() -> None:
    """Close the connections that ``join_group`` has opened."""
    if dist.is_initialized():
        dist.destroy_process_group()

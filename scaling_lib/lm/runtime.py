"""How a run computes: device, number format, compilation and threads, decided once at its start."""

import contextlib
import ctypes
import functools
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace

import torch

from scaling_lib.config import RunConfig
from scaling_lib.counting import count_parameters, training_bytes, training_flops
from scaling_lib.errors import InputError
from scaling_lib.machine import cores, memory_bytes

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16")
# Below some ten thousand parameters, casting to bf16 and back costs what the products save.
BF16_PAYS_FROM_PARAMS = 50_000
# A compiled step was 1.1 to 1.5 times as fast on busy machines, by size; `benchmarks/bench_training.py --part small`
# measures it. Compiling takes 10 to 30 seconds a shape, less where an earlier process has left its work in the
# compiler's cache. The seconds are by a rough rate that no small model reaches: a minute and more in truth.
COMPILE_PAYS_FROM_SECONDS = 30
USABLE_MEMORY = 0.8  # of a device's, by the estimate of counting.training_bytes
ROUGH_FLOPS_PER_SECOND = {"cpu": 1e11, "cuda": 1e14, "mps": 2e12}


@dataclass(frozen=True)
class Runtime:
    """Stored in a run's checkpoint and, all but the device, obeyed on resuming: a resumed run is the same run."""

    device: str
    dtype: str
    compile: bool
    threads: int
    micro_batch: int = 0  # sequences computed at once, where a whole batch would not fit the memory; 0: all
    compile_failed: str = field(default="", compare=False)  # the error for which a run that wanted it is eager

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass: bf16 matrix products, or nothing."""
        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    def as_dict(self) -> dict[str, object]:
        """As plain data; a batch computed whole is not mentioned, nor a compilation that did not fail."""
        return {k: v for k, v in asdict(self).items() if v or k not in ("micro_batch", "compile_failed")}


def choose_runtime(
    config: RunConfig,
    *,
    device: str = "auto",
    dtype: str = "auto",
    compile: bool | None = None,
    threads: int | None = None,
    processes: int = 1,
) -> Runtime:
    """Decide how a run computes. ``None`` and ``"auto"`` choose what is fast here for a run of this size.

    A batch whose activations would not fit the device's memory is computed in parts; ``processes`` share it.

    Raises
    ------
    InputError
        For an unknown device or dtype, a device this machine lacks, or a bad number of threads.
    """
    device = _choose_device(device)
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; choose from {', '.join(DTYPES)}")
    if dtype == "auto":
        large = count_parameters(config.model).total >= BF16_PAYS_FROM_PARAMS
        dtype = "bfloat16" if large and _has_bf16(device) else "float32"
    if compile is None:
        flops = training_flops(config.model, config.n_tokens)
        long = flops / ROUGH_FLOPS_PER_SECOND[device] > COMPILE_PAYS_FROM_SECONDS
        compilers = (os.environ.get("CXX") or "g++", "g++", "clang++")
        compile = long and (device == "cuda" or (device == "cpu" and any(map(shutil.which, compilers))))
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    memory = memory_bytes()
    if device == "cuda":
        memory = float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    micro_batch = _micro_batch(config, memory, 2 if dtype == "bfloat16" else 4, processes)
    return Runtime(device, dtype, bool(compile), threads or min(torch.get_num_threads(), cores()), micro_batch)


def as_possible(runtime: Runtime) -> Runtime:
    """The runtime as it can be had here: eager where compiling fails."""
    error = compile_error(runtime.device) if runtime.compile else ""
    return replace(runtime, compile=False, compile_failed=error) if error else runtime


@functools.cache
def compile_error(device: str) -> str:
    """The kind of error that compiling ends with here, tried once a process on a small function; "" for none.

    A compiler may be there and of no use: broken, of another kind than it is taken for, or in a folder whose name or
    rights it cannot deal with.
    """
    try:
        x = torch.linspace(0, 1, 64, device=device, requires_grad=True)
        torch.compile(lambda x: (x.sin() * 2 + 1).sum(), dynamic=False)(x).backward()
    except Exception as error:  # of the compiler, of torch, or of the system
        return type(error).__name__
    return ""


def _micro_batch(config: RunConfig, memory: float, bytes_per_activation: int, processes: int = 1) -> int:
    """The most sequences at once that fit ``memory`` bytes and divide the batch evenly; 0 where all of them fit."""
    own = max(1, config.train.batch_size // processes)
    sizes = [size for size in range(own, 0, -1) if own % size == 0]
    fits = (s for s in sizes if training_bytes(config.model, s, bytes_per_activation) <= USABLE_MEMORY * memory)
    micro_batch = next(fits, 1)
    return 0 if micro_batch == own else micro_batch


def keep_freed_memory() -> None:
    """Let this process keep the memory that a training step frees, for the next step.

    By default glibc returns every large tensor to the system and asks for it again: 5,000 to 8,000 page faults a
    step of a small model, a seventh of its time. Elsewhere than on Linux with glibc nothing is done.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _choose_device(device: str) -> str:
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r}; choose from {', '.join(DEVICES)}")
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if have[name])
    if not have[device]:
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "no usable GPU was found"
        raise InputError(
            f"device {device!r} was asked for, but {why if device == 'cuda' else 'this machine has none'}; "
            "use --device cpu or --device auto"
        )
    return device


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    if device == "mps":
        return False
    capabilities: dict[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # new in torch 2.9; older: ask with --dtype
    return any(bool(found) for name, found in capabilities.items() if name.endswith("bf16"))

"""What this process may use of its machine, a container's limits included, and which processes live on it."""

import contextlib
import functools
import math
import os
import socket
from pathlib import Path

from scaling_lib.errors import InputError

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def cores() -> int:
    """Cores, by the process's affinity and a container's quota."""
    import joblib

    try:
        return int(joblib.cpu_count())
    except ValueError as error:  # of a variable that the environment sets
        raise InputError(f"LOKY_MAX_CPU_COUNT must be a whole number of at least 1 ({error})") from None


def memory_bytes() -> float:
    """Memory in all, or the least that this process or a control group of it is held to."""
    import psutil

    found = [float(psutil.virtual_memory().total), address_space()]
    for path in _limits():
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found.append(float(int(path.read_text())))
    return min(found)


def address_space() -> float:
    """Bytes that this process may address (``ulimit -v``), more than it will ever touch; infinite without a limit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else float(limit)


@functools.cache
def here() -> str:
    """This machine since its last start, and in a container its own table of processes.

    Elsewhere the number of a process means another one, though the host may have the same name.
    """
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found += [BOOT.read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(found)


def is_dead(pid: int) -> bool:
    """Whether no process here has this number. A zombie is dead too: without an init process nobody buries it."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, ValueError, OverflowError):  # not ours to look at, or no number of a process
        return False


def _limits() -> list[Path]:
    """Where a limit of memory may stand: of each group from this process's own up, in either version of Linux's."""
    files = [CGROUPS / "memory.max", CGROUPS / "memory" / "memory.limit_in_bytes"]
    with contextlib.suppress(OSError):
        for line in OWN_GROUP.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            for group in [g for g in (Path(name), *Path(name).parents) if g != Path("/")]:
                if not controllers:
                    files.append(CGROUPS / str(group).lstrip("/") / "memory.max")
                elif "memory" in controllers.split(","):
                    files.append(CGROUPS / "memory" / str(group).lstrip("/") / "memory.limit_in_bytes")
    return files

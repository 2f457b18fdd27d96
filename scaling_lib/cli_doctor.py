"""The command ``doctor``: what this machine has, how fast it is, what will run on it. A part of the command line."""

import argparse
import importlib.util
import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from scaling_lib import __version__
from scaling_lib.cli_shared import JSON, command, print_json, say
from scaling_lib.lm.cache import cache_folder
from scaling_lib.machine import cores, memory_bytes
from scaling_lib.sweep.plan import Options, make_plan
from scaling_lib.sweep.recipes import cells
from scaling_lib.words import duration

PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "tokenizers", "joblib", "ipywidgets", "jupyterlab", "nbval")
OPTIONAL = {"hub": "datasets", "cluster": "distributed", "ray": "ray", "browser": "playwright", "slides": "pptx"}
MODES = ("demo", "laptop", "quick")
LEAST_DISK_GB = 2.0
SECONDS_A_MODE = 3.0  # of measuring


@command("doctor", "Look at this machine: versions, speed, disk, and what will run here.", JSON)
def doctor_command(args: argparse.Namespace) -> int:
    """``doctor``: print what was found; exit 1 where something that is needed is missing."""
    say("looking at this machine for about 15 s")
    found = examine()
    if args.json:
        print_json(found)
    else:
        print(in_words(found))
    return 1 if found["problems"] else 0


def examine() -> dict[str, Any]:
    """Everything as plain data: versions, device, rates in GFLOP/s, memory and disk in GB, seconds by mode."""
    versions = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    cache = cache_folder()
    nearest = next(p for p in (cache, *cache.parents) if p.exists())
    disk = shutil.disk_usage(nearest).free / 1e9
    problems = [f"{name} is not installed; run ./run_experiments.sh check" for name in missing]
    if disk < LEAST_DISK_GB:
        problems.append(f"{disk:.1f} GB of disk are free for the cache in {cache}; {LEAST_DISK_GB:.0f} are wanted")
    if not os.access(nearest, os.W_OK):
        problems.append(f"the cache folder {cache} cannot be written; set SCALING_LIB_CACHE to another")
    found: dict[str, Any] = {
        "scaling_lib": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": versions,
        "extras": {extra: importlib.util.find_spec(package) is not None for extra, package in OPTIONAL.items()},
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "disk_free_gb": round(disk, 1),
        "cache": {"folder": str(cache), "gb": round(_size(cache) / 1e9, 2), "corpora": _corpora(cache)},
        "compiler": shutil.which(os.environ.get("CXX") or "c++"),
        "problems": problems,
    }
    if versions["torch"] is not None:
        found |= _speed()
    return found


def _speed() -> dict[str, Any]:
    from scaling_lib.lm.runtime import compile_error
    from scaling_lib.lm.speed import device_name, product_gflops
    from scaling_lib.sweep.cost import calibrate, expected_seconds

    device = Options().runtime(cells("demo")[0]).device
    seconds = {}
    for mode in MODES:
        plan = make_plan(cells(mode), Options(on_gpu=device != "cpu"))
        seconds[mode] = round(expected_seconds(plan, calibrate(plan, SECONDS_A_MODE)))
    return {
        "device": device,
        "compiles": not compile_error(device),  # tried, for a compiler may be there and of no use
        "device_name": device_name(device),
        "gflops": {kind: round(product_gflops(device, kind)) for kind in ("float32", "bfloat16")},
        "mode_seconds": seconds,
    }


def in_words(found: dict[str, Any]) -> str:
    """The same for a person."""
    cache = found["cache"]
    lines = [
        f"scaling_lib {found['scaling_lib']}, Python {found['python']}, {found['system']}",
        "packages: " + ", ".join(f"{name} {version or 'MISSING'}" for name, version in found["packages"].items()),
        "extras: " + ", ".join(f"{name} {'yes' if have else 'no'}" for name, have in found["extras"].items()),
        f"machine: {found['cores']} cores, {found['memory_gb']:.0f} GB of memory, {found['disk_free_gb']:.0f} GB of "
        f"disk free, C++ compiler {found['compiler'] or 'none'}",
        f"cache: {cache['folder']}, {cache['gb']:.2f} GB; corpora made: {', '.join(cache['corpora']) or 'none yet'}",
    ]
    if "device" in found:
        rates = ", ".join(f"{rate:,} GFLOP/s in {kind}" for kind, rate in found["gflops"].items())
        compiles = "works" if found["compiles"] else "fails, so that all runs are eager"
        lines.append(f"device: {found['device']} ({found['device_name']}); matrix products {rates}")
        lines.append(f"torch.compile, tried: it {compiles}")
        lines.append("what would run here, and how long it would take from the beginning:")
        lines += [f"  --mode {mode}: about {duration(s)}" for mode, s in found["mode_seconds"].items()]
    return "\n".join(lines + ([f"PROBLEM: {text}" for text in found["problems"]] or ["No problem was found."]))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else 0


def _corpora(folder: Path) -> list[str]:
    """What the cache holds whole, by name and vocabulary."""
    found = set()
    for path in folder.glob("*/meta.json") if folder.is_dir() else ():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))["content"]
            kind = "text" if content["entropy_rate"] is None else path.parent.name.rsplit("-", 3)[0]
            found.add(f"{kind} at vocabulary {content['vocab_size']:,}")
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found)

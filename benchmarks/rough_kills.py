"""What does a sweep lose by kills, and which flipped bits go unseen? The long form of two tests, by real processes.

    python benchmarks/rough_kills.py [--kills 60] [--flips 120] [--seed 0]

Kills: TERM, HUP, INT (once or twice) and KILL, of a launcher, one of its workers, its whole group, or one of two
launchers that share a folder. A kill fails by a traceback, by a launcher that lives a minute later or ends otherwise
than a signal asks for, by a worker that outlives its launcher by ten seconds, by a finished record that is written
again, and if at the end the records differ in one digit from those of a sweep that was left in peace.

Flips: one bit in a record, a checkpoint, a trunk, a file of the corpus' cache, a packed ``runs.jsonl`` or a lab's
ledger. A flip fails by a traceback, by a refusal of more than one line, and by any other result than that of the
undamaged files.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
ENDS, ORPHANED = 60.0, 10.0  # seconds until a launcher must have ended after a signal, and its workers after it
SIGNALS = {"TERM": signal.SIGTERM, "HUP": signal.SIGHUP, "INT": signal.SIGINT, "KILL": signal.SIGKILL}
VICTIMS = ("launcher", "worker", "group", "one of two")
SWEEP = "run --mode laptop --sizes 2 --recipe v2 --recipe wsd --vocab-size 300 --workers 2 --device cpu"
SWEEP += " --no-compile --corpus text:text.txt --checkpoint-seconds 0.2"


def words(steps: int) -> list[str]:
    return [sys.executable, "-m", "scaling_lib", *SWEEP.split(), "--max-steps", str(steps)]


class Place:
    """A folder with a text, a cache and sweeps in it, and the processes that were started there."""

    def __init__(self, root: Path, steps: int) -> None:
        self.root, self.steps = root, steps
        text = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "scaling_lib").rglob("*.py")))
        (root / "text.txt").write_text(text, encoding="utf-8")

    def start(self, out: str, *command: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCALING_LIB_CACHE": str(self.root / "cache")}
        return subprocess.Popen(
            [*(command or words(self.steps)), *(["--out", out] if not command else [])], cwd=self.root, text=True,
            stdout=subprocess.DEVNULL if not command else subprocess.PIPE, stderr=open(self.root / f"{out}.err", "a+"),
            env=environment, start_new_session=True,
        )  # fmt: skip

    def said(self, out: str) -> str:
        return (self.root / f"{out}.err").read_text(encoding="utf-8")


def records(folder: Path) -> dict[str, Any]:
    """What the records say of the training; not where, when and how fast."""
    found = {}
    for path in folder.glob("*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        found[path.name] = {k: v for k, v in data.items() if k not in LOCAL}
    return found


LOCAL = ("environment", "seconds", "tokens_per_second", "sha256")


def family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("popen_loky" in word for word in process.cmdline())
    return False


def strike(r: random.Random, name: str, victim: str, place: Place, out: str) -> list[str]:
    """Let a sweep go on for a moment, kill, and say what was wrong about how it ended."""
    launchers = [place.start(out) for _ in range(2 if victim == "one of two" else 1)]
    hit, faults = launchers[0], []
    began, patience = time.monotonic(), r.uniform(0, 10)
    while hit.poll() is None and time.monotonic() < began + patience + 30:
        workers = [p for p in family(hit.pid) if is_worker(p)]
        if (time.monotonic() > began + patience) and (victim != "worker" or workers):
            break
        time.sleep(0.02)
    kin, ended = family(hit.pid), hit.poll() is not None
    if not ended:
        if victim == "group":
            os.killpg(hit.pid, SIGNALS[name])
        else:
            target = r.choice([p for p in kin if is_worker(p)] or [None]) if victim == "worker" else hit
            with contextlib.suppress(psutil.NoSuchProcess):
                (target or hit).send_signal(SIGNALS[name])
        if name == "INT" and r.random() < 0.5:
            time.sleep(r.uniform(0, 0.5))
            with contextlib.suppress(ProcessLookupError):
                hit.send_signal(signal.SIGINT)
    going_on = victim == "worker" and not ended  # a launcher replaces a worker that died, and goes on
    for launcher in launchers:
        try:
            launcher.wait(600 if going_on or launcher is not hit else ENDS)
        except subprocess.TimeoutExpired:
            faults.append("did not end")
            os.killpg(launcher.pid, signal.SIGKILL)
    # An interrupt that falls into an ``exec`` of Python's own makes it end by SIGINT: a shell calls that 130 too.
    allowed = {0, 130, -signal.SIGINT} | ({-SIGNALS[name]} if name == "KILL" else set())
    # A worker that dies while the speed is measured ends the launcher in one line; later its run is begun again.
    if hit.returncode not in allowed | ({1, 2} if going_on else set()):
        faults.append(f"exit code {hit.returncode}")
    if len(launchers) > 1 and launchers[1].returncode not in (0, 1):
        faults.append(f"the other launcher's exit code {launchers[1].returncode}")
    psutil.wait_procs(kin, timeout=ORPHANED)
    if orphans := alive(kin):
        faults.append(f"{len(orphans)} workers outlived their launcher")
        for orphan in orphans:
            orphan.kill()
    return faults


def kills(r: random.Random, number: int, folder: Path, steps: int) -> Counter[str]:
    """Kill sweeps until the number is reached; each goes on until it is whole, and is compared."""
    place, counted = Place(folder, steps), Counter[str]()
    if place.start("peace").wait():
        raise SystemExit(place.said("peace"))
    expected = records(folder / "peace")
    plan = [(name, victim) for name in SIGNALS for victim in VICTIMS]
    r.shuffle(plan)
    sweep, done, written = 0, 0, {}
    while done < number:
        out = f"sweep{sweep}"
        name, victim = plan[done % len(plan)]
        faults = strike(r, name, victim, place, out)
        done += 1
        for path in (folder / out).glob("*.json"):
            time_written = written.setdefault(path, path.stat().st_mtime_ns)
            if path.stat().st_mtime_ns != time_written:
                faults.append(f"{path.name} was written again")
        whole = len(list((folder / out).glob("*.json"))) == len(expected)
        if whole or done == number:
            if place.start(out).wait(600):
                faults.append("a last start did not finish")
            if records(folder / out) != expected:
                faults.append("other records than in peace")
            if left := [*(folder / out).rglob(".*.tmp"), *(folder / out).glob(".locks/*.lock")]:
                faults.append(f"left behind: {[path.name for path in left]}")
            counted["sweeps compared with one in peace"] += 1
            sweep += 1
        if "Traceback" in (said := place.said(out)):
            faults.append("a traceback")
            (folder / f"{out}.err").rename(folder / f"{out}-{done}.err")
        counted[f"{name} of {victim}"] += 1
        print(f"{done}. {name} of {victim}: {'; '.join(faults) or 'as it should'}", flush=True)
        if faults:
            counted["faults"] += len(faults)
            print(said[-300:], flush=True)
    return counted


def half_done(place: Place) -> None:
    """A sweep that was killed with records, checkpoints and a trunk on disk; a packed sweep; a lab with purchases."""
    folder, deadline = place.root / "half", time.monotonic() + 300
    launcher = place.start("half")
    while time.monotonic() < deadline and launcher.poll() is None:
        kinds = [list(folder.glob(pattern)) for pattern in ("*.json", ".ckpt/*.pt")]
        if all(kinds) and any("trunk" in path.name for path in kinds[1]):
            break
        time.sleep(0.02)
    kin = family(launcher.pid)
    os.killpg(launcher.pid, signal.SIGKILL)
    for process in kin:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.copytree(place.root / "peace", place.root / "packed")
    python = (sys.executable, "-m", "scaling_lib")
    for command in ("pack packed", "lab open lab --shop laptop"):
        if place.start("ready", *python, *command.split()).wait():
            raise SystemExit(place.said("ready"))
    shop = json.loads((place.root / "lab" / "ledger.json").read_text(encoding="utf-8"))
    assert shop, "an open lab has a ledger"


def flips(r: random.Random, number: int, folder: Path, steps: int) -> Counter[str]:
    """Flip a bit, go on, and compare with the undamaged files."""
    counted = Counter[str]()
    base = folder / "base"
    base.mkdir()
    place = Place(base, steps)
    if place.start("peace").wait():
        raise SystemExit(place.said("peace"))
    expected = records(base / "peace")
    half_done(place)
    kinds = {
        "record": list((base / "half").glob("*.json")),
        "checkpoint or trunk": list((base / "half" / ".ckpt").glob("*.pt")),
        "cache": [path for path in (base / "cache").rglob("*") if path.is_file()],
        "runs.jsonl": [base / "packed" / "runs.jsonl"],
        "ledger": [base / "lab" / "ledger.json"],
    }
    python = (sys.executable, "-m", "scaling_lib")
    questions = {"runs.jsonl": ["fit", "packed", "--json"], "ledger": ["lab", "status", "lab"]}
    answers = {kind: asked(place, *python, *question) for kind, question in questions.items()}
    for i in range(number):
        kind = list(kinds)[i % len(kinds)]
        path = r.choice(kinds[kind])
        copy = folder / f"flip{i}"
        shutil.copytree(base, copy, ignore=shutil.ignore_patterns("peace", "*.err"))
        damaged = copy / path.relative_to(base)
        content = bytearray(damaged.read_bytes())
        at, bit = r.randrange(len(content)), r.randrange(8)
        content[at] ^= 1 << bit
        damaged.write_bytes(content)
        there, faults = Place.__new__(Place), []
        there.root, there.steps = copy, steps
        if kind in questions:
            code, out, err = asked(there, *python, *questions[kind])
            same = (code, out) == answers[kind][:2]
            named = damaged.name in err or "ledger" in err
        else:
            code, err = there.start("half").wait(600), there.said("half")
            same, named = code == 0 and records(copy / "half") == expected, True
        refused = code == 2 and len(err.strip().splitlines()) == 1
        if "Traceback" in err:
            faults.append("a traceback")
        if not (same or refused or (code == 0 and named and kind == "runs.jsonl")):
            faults.append(f"exit code {code}, another result")
        counted[
            f"{kind}: {'as undamaged' if same else 'refused in a line' if refused else 'named, the rest used'}"
        ] += 1
        print(f"{i + 1}. {kind}: {'; '.join(faults) or 'as it should'}", flush=True)
        if faults:
            counted["faults"] += len(faults)
            print(f"{path.name}, bit {bit} of byte {at}\n{err[-300:]}", flush=True)
        shutil.rmtree(copy)
    return counted


def asked(place: Place, *command: str) -> tuple[int, str, str]:
    process = place.start("asked", *command)
    out = process.communicate(timeout=300)[0]
    err = place.said("asked")
    (place.root / "asked.err").unlink()
    return process.returncode, out, err


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--flips", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for ignored in (signal.SIGINT, signal.SIGHUP):  # by jobs in the background and under nohup, and by their children
        signal.signal(ignored, signal.default_int_handler)
    for title, play, number, steps in (("kills", kills, args.kills, 240), ("flips", flips, args.flips, 120)):
        with tempfile.TemporaryDirectory() as folder:
            counted = play(random.Random(args.seed), number, Path(folder), steps) if number else Counter()
        print(f"{number} {title}, {counted.pop('faults', 0)} faults")
        for what, times in sorted(counted.items()):
            print(f"  {times:3d}  {what}")


if __name__ == "__main__":
    main()

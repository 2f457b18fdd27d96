"""The shipped tables as text, and the published runs as arrays: Cerebras-GPT, Pythia, Chinchilla by Epoch."""

from __future__ import annotations

import csv
import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.headings import show
from scaling_lib.fit.table import RunTable, read_table, table_from_arrays

EPOCH_FILE = "chinchilla_epoch.csv"
EPOCH_URL = (
    "https://raw.githubusercontent.com/epoch-research/analyzing-chinchilla/"
    "92258837425e1b5f2851d624287f0120583a3d0e/data/svg_extracted_data.csv"
)
EPOCH_SHA256 = "193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30"


@functools.cache
def read(name: str) -> tuple[Mapping[str, str], ...]:
    """Return the rows of a shipped table such as "models", as text; each row has its source and tag."""
    folder = resources.files("scaling_lib.fit") / "tables"
    try:
        text = (folder / f"{name}.csv").read_text(encoding="utf-8")
    except OSError:
        has = ", ".join(sorted(p.name.removesuffix(".csv") for p in folder.iterdir() if p.name.endswith(".csv")))
        raise InputError(f"no published table {name!r}: choose one of {has}") from None
    return tuple(MappingProxyType(row) for row in csv.DictReader(text.splitlines()))


def cerebras_gpt(losses: str = "paper") -> RunTable:
    """Return Cerebras-GPT's seven runs (Pile test loss, 20 tokens per parameter).

    The paper's row and the model cards' disagree; ``losses`` is "paper" (the default everywhere) or
    "model_card".
    """
    if losses not in ("paper", "model_card"):
        raise InputError(f"losses={losses!r} is unknown: choose 'paper' or 'model_card'")
    rows = read("cerebras_gpt")
    return table_from_arrays(
        [float(r[f"loss_{losses}"]) for r in rows],
        n_params=[float(r["n_params"]) for r in rows],
        n_tokens=[float(r["n_tokens"]) for r in rows],
        flops=[float(r["flops"]) for r in rows],
        labels=[r["model"] for r in rows],
        source=f"Cerebras-GPT, {losses.replace('_', ' ')}",
    )


def pythia(convention: str = "non_embedding") -> RunTable:
    """Return Pythia's eight runs (Pile loss, 300B tokens each) with N "non_embedding" or "total"."""
    if convention not in ("non_embedding", "total"):
        raise InputError(f"convention={convention!r} is unknown: choose 'non_embedding' or 'total'")
    rows = read("pythia")
    return table_from_arrays(
        [float(r["loss"]) for r in rows],
        n_params=[float(r[f"n_params_{convention}"]) for r in rows],
        n_tokens=[float(r["n_tokens"]) for r in rows],
        labels=[r["model"] for r in rows],
        source=f"Pythia, {convention.replace('_', '-')} N",
    )


def epoch_runs(path: str | os.PathLike[str] | None = None, *, all_runs: bool = False, url: str = EPOCH_URL) -> RunTable:
    """Return Chinchilla's runs as Epoch read them off the paper's figure 4 [Besiroglu et al. 2024].

    The file is not part of this package. Looked for in turn: ``path``; the folder named by the environment
    variable SCALING_LIB_DATA; the user's cache; ``url``, fetched once. Its SHA-256 is checked in each case.

    Parameters
    ----------
    path : the CSV file, if you have it.
    all_runs : all 245; by default the 240 whose loss lies below the fifth largest, as in the study.

    Raises
    ------
    InputError : where the file cannot be had, or is another one.
    """
    folder = os.environ.get("SCALING_LIB_DATA")
    if path is None and folder and (Path(folder) / EPOCH_FILE).is_file():
        path = Path(folder) / EPOCH_FILE
    file = Path(path) if path is not None else _fetch(url)
    shown = show(os.fspath(file))
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({error.strerror}); give the path of the CSV file") from None
    if found != EPOCH_SHA256:
        raise InputError(f"{shown}: another file than expected, SHA-256 {found[:12]}, not {EPOCH_SHA256[:12]}")
    table = replace(read_table(file), source="Chinchilla's runs by Epoch")
    return table if all_runs else table.select(table.loss < np.sort(table.loss)[-5])


def _fetch(url: str) -> Path:
    """Return the cached copy of the Epoch file, fetched and checked if need be."""
    import platformdirs
    import pooch

    chosen = os.environ.get("SCALING_LIB_CACHE")  # as for corpora
    cache = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("scaling_lib", appauthor=False)
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{EPOCH_SHA256}", fname=EPOCH_FILE, path=cache))
    except Exception as error:  # no network, a proxy's page, a full disk: pooch raises whatever its downloader raised
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"Epoch's table could not be fetched ({type(error).__name__}: {reason}); download {url} "
            f"and pass its path, or put it as {EPOCH_FILE} into the folder that SCALING_LIB_DATA names"
        ) from None

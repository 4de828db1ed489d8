"""The folder where a run's nodes keep the states of an LLM's frozen layers, and its removal."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.digest import json_digest
from cluster.errors import UserError
from cluster.nodes import ask_nodes
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.fingerprint import model_identity
from pipeline.stages.same_on_nodes import has_cpus
from training.loops.trunk_states import CacheSettings

log = logging.getLogger("dealrec.finetune")

_FOLDER = "trunk"
_GIB = 2**30


def trunk_cache(config: Config, run: Storage) -> CacheSettings:
    """Return the folder for these layers of this model, which all arms of a comparison share.

    It lies in the run directory, or on each node's own disk where the run directory is in a store.
    """
    section = config.finetune
    if section.layers == "all":
        return CacheSettings()
    key = json_digest([model_identity(config.llm.model), config.llm.dtype, section.layers])[:16]
    limit = None if section.cache_gib is None else int(section.cache_gib * _GIB)
    return CacheSettings(str(trunk_home(run) / key), limit)


def check_room(config: Config, run: Storage) -> str:
    """Check that the disk of a local run directory, or of this node's temporary folder, holds finetune.cache_gib.

    Raises `UserError` otherwise. Without the key, the states take at most half of the free disk.
    """
    home = trunk_home(run)
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / _GIB
    asked = config.finetune.cache_gib
    if asked is not None and asked > free:
        raise UserError(
            f"finetune.cache_gib is {asked:g}, but the disk of {existing} has {free:.1f} GiB free.",
            "Lower finetune.cache_gib, omit it to use half of the free disk, or set it to 0 to keep nothing.",
        )
    return f"{free:.1f} GiB free in {existing}"


def trunk_home(run: Storage) -> Path:
    """Return the folder of all states of a run."""
    if run.remote:
        return Path(tempfile.gettempdir(), f"dealrec-{_FOLDER}-{json_digest(run.uri)[:16]}")
    return Path(run.uri, _FOLDER)


@contextmanager
def trunk_removed(config: Config, run: Storage) -> Iterator[None]:
    """Delete the run's states after a block that ends without an error; an interrupted run finds them again."""
    yield
    if config.finetune.layers == "all":
        return
    home = str(trunk_home(run))
    if not run.remote:
        _delete(home)
    elif leftovers := [node for node, left in ask_nodes(_delete, has_cpus, home).items() if left]:
        log.warning("States of the frozen layers are left in %s on %s", home, ", ".join(leftovers))


def _delete(home: str) -> bool:
    """Delete a folder, and return whether anything is left of it."""
    shutil.rmtree(home, ignore_errors=True)
    return Path(home).exists()

"""Files that workers read from their own node: every node must have them, and they must be equal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cluster.errors import UserError
from cluster.nodes import RayNode, ask_nodes
from pipeline.engine.fingerprint import model_identity

#: The largest number of files or nodes that a message names.
_NAMED = 3
MISSING = "missing"
T = TypeVar("T")
Facts = Mapping[str, object]


def same_llm(model: str, on_gpus: bool, unpacked: bool) -> str:
    """Describe the LLM that all nodes have. Raises `UserError` naming nodes that lack it or have another one.

    Parameters
    ----------
    on_gpus : workers run on nodes with GPUs alone.
    unpacked : a GGUF file is read by the driver alone, which unpacks it into the run directory.
    """
    path = Path(model)
    suits = has_gpus if on_gpus else has_cpus
    if unpacked and path.suffix == ".gguf":
        return "unpacked into the run directory"
    if path.exists():
        return same_on_nodes("llm.model", str(path.resolve()), _model_files, str(path.resolve()), suits)
    return same_on_nodes("llm.model", model, _hub_files, model, suits)


def same_on_nodes(
    key: str, what: str, look: Callable[[T], Facts], argument: T, suits: Callable[[RayNode], bool]
) -> str:
    """Compare what each node sees with what the driver sees. Raises `UserError` naming nodes and files."""
    here, answers = look(argument), ask_nodes(look, suits, argument)
    lacking = {node: seen[MISSING] for node, seen in answers.items() if MISSING in seen}
    if lacking:
        why = next((f" ({reason})" for reason in lacking.values() if reason), "")
        raise UserError(f"{key}: {what} is missing on {_some(list(lacking))}{why}.", _remedy(key))
    differing = {node: _differences(here, seen) for node, seen in answers.items() if seen != here}
    if differing:
        files = _some(sorted({name for names in differing.values() for name in names}))
        raise UserError(
            f"{key}: {what} differs between {_some(list(differing))} and the driver, in {files}.", _remedy(key)
        )
    return f"{what}, the same on {len(answers)} node{'s' if len(answers) != 1 else ''}"


def _remedy(key: str) -> str:
    if key in ("surrogate.model", "select.method"):
        return "Put the module into the checkout that a job ships, or on the PYTHONPATH of every node, in one version."
    others = ", or give the name of a model on a hub that all nodes reach" if key == "llm.model" else ""
    return f"Copy it to that path on every node, put it on storage that all nodes mount{others}."


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _differences(here: Facts, there: Facts) -> list[str]:
    return [name for name in {**here, **there} if here.get(name) != there.get(name)]


def has_cpus(node: RayNode) -> bool:
    return bool(node["Resources"].get("CPU", 0))


def has_gpus(node: RayNode) -> bool:
    return bool(node["Resources"].get("GPU", 0))


def _model_files(model: str) -> Facts:
    """Describe each of the model's files, on a node."""
    path = Path(model)
    if not path.exists():
        return {MISSING: ""}
    try:
        found = model_identity(model)
    except OSError as error:
        return {MISSING: f"{error.filename}: {error.strerror}"}
    files: Facts = found.get("files", {path.name: found})
    return files


def _hub_files(model: str) -> Facts:
    """Read the configuration of a hub's model, on a node, from the node's cache or from the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return {"config.json": Path(hf_hub_download(model, "config.json")).read_text(encoding="utf-8")}
    except (HTTPError, HFValidationError, OSError) as error:
        return {MISSING: (str(error).strip().splitlines() or [type(error).__name__])[0]}

"""What workers read by a path of their own node: it must be there on every node that they may run on, and the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.nodes import ask_nodes
from cluster.storage import is_remote
from pipeline.checks import Subject
from pipeline.fingerprint import code_identity, model_identity
from pipeline.stages.placement import gpus_per_worker

#: Files and nodes named at most.
_NAMED = 3
_MISSING = "missing"
Facts = Mapping[str, Any]


def check_log_files(subject: Subject) -> str:
    """The files of the log, which the tasks of ingest read, by name and size."""
    from pipeline.ingest.sources import find_files

    data = subject.config.data
    found = [file.name for file in find_files(data.interactions, "data.interactions", skip_suffix=".item")]
    files = [str(Path(name).absolute()) for name in found if not is_remote(name)]
    if not files:
        return "on storage that all nodes reach"
    return _same("data.interactions", data.interactions, _sizes, files, _has_cpus)


def check_llm_files(subject: Subject) -> str:
    """The model's files, which every worker with the LLM reads, by name, size and hash; of a hub's, its config."""
    unpacked = subject.run is not None and not subject.run.remote
    return same_llm(subject.config.llm.model, needs_gpu(subject), unpacked)


def same_llm(model: str, on_gpus: bool, unpacked: bool) -> str:
    """Raise `UserError` naming the nodes that lack the LLM or have another; else say what there is.

    Parameters
    ----------
    on_gpus : workers run on nodes with GPUs alone.
    unpacked : a GGUF file is read by the driver alone, which unpacks it into the run directory.
    """
    path = Path(model)
    suits = _has_gpus if on_gpus else _has_cpus
    if unpacked and path.suffix == ".gguf":
        return "unpacked into the run directory"
    if path.exists():
        return _same("llm.model", str(path.resolve()), _model_files, str(path.resolve()), suits)
    return _same("llm.model", model, _hub_files, model, suits)


def needs_gpu(subject: Subject) -> bool:
    """Whether the workers with the LLM are given GPUs."""
    assert subject.view is not None
    return gpus_per_worker(subject.config, subject.view) > 0


def check_own_surrogate(subject: Subject) -> str:
    """The module of a surrogate of the user's own, which every worker imports."""
    module = subject.config.surrogate.model.partition(":")[0]
    return _same("surrogate.model", module, _code, module, _has_cpus)


def _same(key: str, what: str, look: Callable[[Any], Facts], argument: Any, suits: Callable[[Any], bool]) -> str:
    """Compare what each node sees with what the driver sees. Raises `UserError` naming nodes and files."""
    here, answers = look(argument), ask_nodes(look, suits, argument)
    lacking = {node: seen[_MISSING] for node, seen in answers.items() if _MISSING in seen}
    if lacking:
        why = next((f" ({reason})" for reason in lacking.values() if reason), "")
        raise UserError(f"{key}: {what} is not there on {_some(list(lacking))}{why}.", _remedy(key))
    differing = {node: _differences(here, seen) for node, seen in answers.items() if seen != here}
    if differing:
        files = _some(sorted({name for names in differing.values() for name in names}))
        raise UserError(
            f"{key}: {what} is another on {_some(list(differing))} than at the driver: {files} differ.", _remedy(key)
        )
    return f"{what}, the same on {len(answers)} node{'s' if len(answers) != 1 else ''}"


def _remedy(key: str) -> str:
    if key == "surrogate.model":
        return "Put the module into the checkout that a job ships, or on the PYTHONPATH of every node, in one version."
    others = ", or give the name of a model on a hub that all nodes reach" if key == "llm.model" else ""
    return f"Copy it to that path on every node, put it on storage that all nodes mount{others}."


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _differences(here: Facts, there: Facts) -> list[str]:
    return [name for name in {**here, **there} if here.get(name) != there.get(name)]


def _has_cpus(node: Mapping[str, Any]) -> bool:
    return bool(node["Resources"].get("CPU", 0))


def _has_gpus(node: Mapping[str, Any]) -> bool:
    return bool(node["Resources"].get("GPU", 0))


def _sizes(files: Sequence[str]) -> Facts:
    """On a node: the size of each file."""
    try:
        return {Path(file).name if len(files) == 1 else file: Path(file).stat().st_size for file in files}
    except OSError as error:
        return {_MISSING: str(error.filename)}


def _model_files(model: str) -> Facts:
    """On a node: what each of the model's files is."""
    path = Path(model)
    if not path.exists():
        return {_MISSING: ""}
    try:
        found = model_identity(model)
    except OSError as error:
        return {_MISSING: f"{error.filename}: {error.strerror}"}
    files: Facts = found.get("files", {path.name: found})
    return files


def _hub_files(model: str) -> Facts:
    """On a node: the configuration of a model of a hub, from the node's cache or from the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return {"config.json": Path(hf_hub_download(model, "config.json")).read_text(encoding="utf-8")}
    except (HTTPError, HFValidationError, OSError) as error:
        return {_MISSING: (str(error).strip().splitlines() or [type(error).__name__])[0]}


def _code(module: str) -> Facts:
    """On a node: the source of a module."""
    found = code_identity(module)
    return {f"{module}": found["hash"]} if "hash" in found else {_MISSING: f"no module {module}"}

"""What every living node has to offer, told by a small task on each."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import psutil
import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import UserError
from cluster.storage import Storage

#: Packages whose versions decide results or formats.
PACKAGES = ("ray", "torch", "transformers", "peft", "deepspeed", "pyarrow", "numpy")
#: Programs that compilation needs.
PROGRAMS = ("c++", "g++", "nvcc")
#: A node that is alive starts a worker in seconds, in tens of seconds when it is busy.
_ANSWER_SECONDS = 120.0
#: Ray counts a dead node as living for half a minute.
_NOTICE_SECONDS = 45.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class NodeFacts:
    """One node.

    Attributes
    ----------
    name : host name and the first characters of Ray's id.
    versions : of Python and of PACKAGES; a package that is missing is "none".
    programs : those of PROGRAMS that are on the path.
    memory : bytes that are free.
    gpus : logical GPUs.
    """

    name: str
    versions: dict[str, str]
    programs: tuple[str, ...]
    memory: int
    gpus: int


def inspect_nodes() -> list[NodeFacts]:
    """The facts of every living node. Raises `UserError` for nodes that do not answer."""
    return _steadily(_inspect)


def _inspect(nodes: Sequence[dict[str, Any]]) -> list[NodeFacts]:
    answers = on_nodes(_facts, _ids(nodes))
    return [
        NodeFacts(
            _name(node),
            versions,
            programs,
            # In a container the system tells of the whole machine, and Ray of the container.
            min(memory, int(node["Resources"].get("memory", memory))),
            int(node["Resources"].get("GPU", 0)),
        )
        for node, (versions, programs, memory) in zip(nodes, answers, strict=True)
    ]


def ask_nodes(
    function: Callable[..., Answer], suits: Callable[[dict[str, Any]], bool], *arguments: Any
) -> dict[str, Answer]:
    """What a function returns on each living node that suits, by the node's name.

    Parameters
    ----------
    suits : by Ray's record of a node, as `living_nodes` gives it.

    Raises `UserError` for nodes that do not answer.
    """

    def ask(nodes: Sequence[dict[str, Any]]) -> dict[str, Answer]:
        asked = [node for node in nodes if suits(node)]
        answers = on_nodes(function, _ids(asked), *arguments)
        return {_name(node): answer for node, answer in zip(asked, answers, strict=True)}

    return _steadily(ask)


def own_versions() -> dict[str, str]:
    """Versions of Python and of PACKAGES in this process."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


def unshared(storage: Storage) -> list[str]:
    """Names of the nodes that do not read in a folder what the first of the nodes has written there.

    The driver reads too: it merges and selects. Nothing is left behind.
    """
    return _steadily(partial(_unshared, storage))


def _unshared(storage: Storage, nodes: Sequence[dict[str, Any]]) -> list[str]:
    token = secrets.token_hex(16)
    probe = f"_probe-{token[:8]}"
    ids = _ids(nodes)
    first = ids[0]
    try:
        if not on_nodes(_write, [first], storage, probe, token)[0]:
            return [_name(nodes[0])]
        answers = on_nodes(_reads, ids, storage, probe, token)
        lacking = [_name(node) for node, reads in zip(nodes, answers, strict=True) if not reads]
        return lacking if _reads(storage, probe, token) else [*lacking, "the driver"]
    finally:
        with contextlib.suppress(UserError):
            on_nodes(_delete, [first], storage, probe)


def _steadily(ask: Callable[[Sequence[dict[str, Any]]], Answer]) -> Answer:
    """What the living nodes answer; asked again when one of them has died meanwhile, which Ray notices late."""
    while True:
        nodes = living_nodes()
        try:
            return ask(nodes)
        except UserError:
            end = time.monotonic() + _NOTICE_SECONDS
            while _ids(living_nodes()) == _ids(nodes):
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)


def _ids(nodes: Sequence[dict[str, Any]]) -> list[str]:
    return [str(node["NodeID"]) for node in nodes]


def living_nodes() -> list[dict[str, Any]]:
    """Ray's records of the living nodes, ordered by id."""
    return sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeID"]))


def on_nodes(function: Callable[..., Any], node_ids: Sequence[str], *arguments: Any) -> list[Any]:
    """What a function returns on each node, run beside whatever works there.

    Raises `UserError` naming the nodes that do not answer in two minutes, or where the function fails.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    calls = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments)
        for node in node_ids
    ]
    names = {str(node["NodeID"]): _name(node) for node in ray.nodes()}
    results = []
    for node, call in zip(node_ids, calls, strict=True):
        try:
            results.append(ray.get(call, timeout=_ANSWER_SECONDS))
        except (GetTimeoutError, RayError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(
                f"Node {names.get(node, node)} does not run a small task ({lines[-1]}).",
                "Look at the logs of its raylet, or take it out of the cluster.",
            ) from error
    return results


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})"


def _facts() -> tuple[dict[str, str], tuple[str, ...], int]:
    toolkit = os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin")
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), toolkit])
    named = {"c++": os.environ.get("CXX", "c++")}
    programs = tuple(name for name in PROGRAMS if shutil.which(named.get(name, name), path=path))
    return own_versions(), programs, int(psutil.virtual_memory().available)


def _write(storage: Storage, name: str, token: str) -> bool:
    try:
        storage.write_text(name, token)
    except OSError:
        return False
    return True


def _reads(storage: Storage, name: str, token: str) -> bool:
    try:
        return storage.read_text(name) == token
    except OSError:
        return False


def _delete(storage: Storage, name: str) -> None:
    with contextlib.suppress(OSError):
        storage.delete(name)

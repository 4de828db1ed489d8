"""Facts about every live node, collected by a small task on each."""

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
from typing import TypedDict, TypeVar

import psutil
import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import UserError
from cluster.storage import Storage

#: Packages whose versions affect results or file formats.
PACKAGES = ("ray", "torch", "transformers", "peft", "deepspeed", "pyarrow", "numpy")
#: Programs needed to compile native code.
PROGRAMS = ("c++", "g++", "nvcc")
#: A live node starts a worker within seconds, or tens of seconds when busy.
_ANSWER_SECONDS = 120.0
#: Ray takes half a minute to notice a dead node.
_NOTICE_SECONDS = 45.0

Answer = TypeVar("Answer")


class RayNode(TypedDict):
    """The keys used here of a node's record in `ray.nodes()`."""

    NodeID: str
    NodeManagerHostname: str
    Alive: bool
    Resources: dict[str, float]


@dataclass(frozen=True)
class NodeFacts:
    """What a run needs to know about one node.

    Attributes
    ----------
    name : host name and the first characters of Ray's node id.
    versions : versions of Python and of PACKAGES; "none" for a missing package.
    programs : the PROGRAMS found on the path.
    memory : free memory in bytes.
    gpus : number of logical GPUs.
    """

    name: str
    versions: dict[str, str]
    programs: tuple[str, ...]
    memory: int
    gpus: int


def inspect_nodes() -> list[NodeFacts]:
    """Return the facts of every live node. Raises `UserError` for nodes that do not answer."""
    return _with_live_nodes(_inspect)


def _inspect(nodes: Sequence[RayNode]) -> list[NodeFacts]:
    answers = on_nodes(_facts, _ids(nodes))
    return [
        NodeFacts(
            _name(node),
            versions,
            programs,
            # In a container, the system reports the whole machine's memory and Ray the container's.
            min(memory, int(node["Resources"].get("memory", memory))),
            int(node["Resources"].get("GPU", 0)),
        )
        for node, (versions, programs, memory) in zip(nodes, answers, strict=True)
    ]


def ask_nodes(
    function: Callable[..., Answer], suits: Callable[[RayNode], bool], *arguments: object
) -> dict[str, Answer]:
    """Run a function on each suitable live node, and return its results by node name.

    Parameters
    ----------
    suits : whether to run on a node, given its record.

    Raises `UserError` for nodes that do not answer.
    """

    def ask(nodes: Sequence[RayNode]) -> dict[str, Answer]:
        asked = [node for node in nodes if suits(node)]
        answers = on_nodes(function, _ids(asked), *arguments)
        return {_name(node): answer for node, answer in zip(asked, answers, strict=True)}

    return _with_live_nodes(ask)


def own_versions() -> dict[str, str]:
    """Return the versions of Python and of PACKAGES in this process."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


def nodes_not_sharing(storage: Storage) -> list[str]:
    """Return the names of the nodes that cannot read what the first node writes to a folder.

    The driver is checked too, since it merges and selects. The probe file is removed afterwards.
    """
    return _with_live_nodes(partial(_nodes_not_sharing, storage))


def _nodes_not_sharing(storage: Storage, nodes: Sequence[RayNode]) -> list[str]:
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


def _with_live_nodes(ask: Callable[[Sequence[RayNode]], Answer]) -> Answer:
    """Call `ask` with the live nodes, and again if one of them has died meanwhile, which Ray notices late."""
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


def _ids(nodes: Sequence[RayNode]) -> list[str]:
    return [str(node["NodeID"]) for node in nodes]


def living_nodes() -> list[RayNode]:
    """Return Ray's records of the live nodes, ordered by id."""
    return sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeID"]))


def on_nodes(function: Callable[..., Answer], node_ids: Sequence[str], *arguments: object) -> list[Answer]:
    """Run a function on each node, beside whatever else runs there, and return its results.

    Raises `UserError` for a node that does not answer within two minutes, or on which the function fails.
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
                f"Node {names.get(node, node)} cannot run a small task ({lines[-1]}).",
                "Check its raylet's logs, or remove it from the cluster.",
            ) from error
    return results


def _name(node: RayNode) -> str:
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

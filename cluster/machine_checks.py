"""Checks of a machine and a cluster that take seconds and save hours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cluster.errors import UserError
from cluster.nodes import NodeFacts
from cluster.storage import Storage


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes
    ----------
    what : the resource, in a few words.
    found : what there is.
    lack : what is missing for the work at hand, or empty.
    remedy : how to get it.
    """

    what: str
    found: str
    lack: str = ""
    remedy: str = ""


def check_gpus(wanted: int | str, embedded: bool) -> Finding:
    """GPUs asked for by number must be there; on an embedded Ray they are this machine's."""
    count = torch.cuda.device_count()
    found = f"{count} on this machine"
    if embedded and isinstance(wanted, int) and wanted > count:
        return Finding(
            "GPU",
            found,
            f"cluster.gpus asks for {wanted} and this machine has {count}",
            "Set cluster.gpus to 0 to run on CPU, or give the address of a cluster with GPUs.",
        )
    return Finding("GPU", found)


def check_memory(free: int, least: int) -> Finding:
    """Free memory of this machine, in bytes."""
    text = f"{free / 2**30:.1f} GiB free"
    if free < least:
        return Finding(
            "memory",
            text,
            f"at least {least / 2**30:.1f} GiB are needed",
            "Close other programs, or run on a larger machine.",
        )
    return Finding("memory", text)


def check_writable(folder: Storage) -> Finding:
    """Whether this process may write a folder that need not be there yet; nothing is written."""
    found = Finding("storage", folder.uri)
    remedy = "Choose another --run-dir, or mend its permissions."
    if folder.remote:
        try:
            folder.exists()
        except OSError as error:
            return replace(found, lack=f"{folder.uri} cannot be reached: {str(error).rstrip('.')}", remedy=remedy)
        return found
    place = Path(folder.uri)
    there = next(parent for parent in (place, *place.parents) if parent.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return found
    return replace(found, lack=f"{folder.uri} cannot be written, because {there} cannot", remedy=remedy)


def check_nodes_memory(nodes: Sequence[NodeFacts], least: int) -> Finding:
    """Free memory of every living node, in bytes."""
    smallest = min(nodes, key=lambda node: node.memory)
    found = f"{smallest.memory / 2**30:.1f} GiB free on {smallest.name}, the least of {len(nodes)} nodes"
    poor = [node.name for node in nodes if node.memory < least]
    if not poor:
        return Finding("memory", found)
    return Finding(
        "memory",
        found,
        f"a worker needs about {least / 2**30:.1f} GiB and {', '.join(poor)} have less",
        "Use larger nodes.",
    )


def check_versions(nodes: Sequence[NodeFacts], driver: Mapping[str, str]) -> Finding:
    """The versions that matter must be the driver's on every node: an upgrade of one may change scores or formats."""
    differing = [
        f"{package} is {node.versions[package]} on {node.name} and {version} at the driver"
        for package, version in driver.items()
        for node in nodes
        if node.versions[package] != version
    ]
    found = f"Python {driver['python']}, ray {driver['ray']}, torch {driver['torch']}"
    if not differing:
        return Finding("versions", found)
    return Finding("versions", found, "; ".join(differing), "Give all nodes the same image or constraints.txt.")


def require(findings: Sequence[Finding]) -> None:
    """Raise one `UserError` that names every lack, each with its remedy."""
    # Two checks may come upon one fault.
    lacks = list(dict.fromkeys((finding.lack, finding.remedy) for finding in findings if finding.lack))
    if len(lacks) == 1:
        raise UserError(f"{lacks[0][0]}.", lacks[0][1])
    if lacks:
        listed = "".join(f"\n{place}. {lack}. {remedy}" for place, (lack, remedy) in enumerate(lacks, start=1))
        raise UserError(f"{len(lacks)} things are in the way:{listed}")

"""Checks of a machine or a cluster that take seconds and can save hours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cluster.errors import UserError
from cluster.masking import masked
from cluster.nodes import NodeFacts
from cluster.storage import Storage


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. Credentials in its texts are masked.

    Attributes
    ----------
    what : the resource that was checked, in a few words.
    found : what is available.
    lack : what is missing for this run; empty if nothing is.
    remedy : how to supply what is missing.
    """

    what: str
    found: str
    lack: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        for name in ("found", "lack", "remedy"):
            object.__setattr__(self, name, masked(getattr(self, name)))


def check_gpus(wanted: int | str, embedded: bool) -> Finding:
    """Check that an embedded Ray can have the number of GPUs that the config asks for."""
    count = torch.cuda.device_count()
    found = f"{count} on this machine"
    if embedded and isinstance(wanted, int) and wanted > count:
        return Finding(
            "GPU",
            found,
            f"cluster.gpus asks for {wanted}, but this machine has {count}",
            "Set cluster.gpus to 0 to run on CPU, or give the address of a cluster with GPUs.",
        )
    return Finding("GPU", found)


def check_memory(free: int, least: int) -> Finding:
    """Check that this machine's free memory, `free` bytes, is at least `least`."""
    text = f"{free / 2**30:.1f} GiB free"
    if free < least:
        return Finding(
            "memory",
            text,
            f"the run needs at least {least / 2**30:.1f} GiB",
            "Close other programs, or use a larger machine.",
        )
    return Finding("memory", text)


def check_writable(folder: Storage) -> Finding:
    """Check that this process may write to a folder, which need not exist yet. Write nothing."""
    found = Finding("storage", folder.uri)
    remedy = "Choose another --run-dir, or fix its permissions."
    if folder.remote:
        try:
            folder.exists()
        except OSError as error:
            return replace(found, lack=f"{folder.uri} cannot be reached: {str(error).rstrip('.')}", remedy=remedy)
        return found
    path = Path(folder.uri)
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return found
    return replace(found, lack=f"{folder.uri} cannot be written to: {existing} is not writable", remedy=remedy)


def check_nodes_memory(nodes: Sequence[NodeFacts], least: int) -> Finding:
    """Check that every live node has at least `least` bytes of free memory."""
    smallest = min(nodes, key=lambda node: node.memory)
    found = f"{smallest.memory / 2**30:.1f} GiB free on {smallest.name}, the smallest of {len(nodes)} nodes"
    poor = [node.name for node in nodes if node.memory < least]
    if not poor:
        return Finding("memory", found)
    return Finding(
        "memory",
        found,
        f"a worker needs about {least / 2**30:.1f} GiB; {', '.join(poor)} have less",
        "Use larger nodes.",
    )


def check_versions(nodes: Sequence[NodeFacts], driver: Mapping[str, str]) -> Finding:
    """Check that every node runs the driver's versions: a different one may change scores or file formats."""
    differing = [
        f"{package} is {node.versions[package]} on {node.name} but {version} on the driver"
        for package, version in driver.items()
        for node in nodes
        if node.versions[package] != version
    ]
    found = f"Python {driver['python']}, ray {driver['ray']}, torch {driver['torch']}"
    if not differing:
        return Finding("versions", found)
    return Finding("versions", found, "; ".join(differing), "Use one image, or one constraints.txt, on all nodes.")


def require(findings: Sequence[Finding]) -> None:
    """Raise one `UserError` that lists everything missing, each with its remedy."""
    # Two checks may report the same fault.
    lacks = list(dict.fromkeys((finding.lack, finding.remedy) for finding in findings if finding.lack))
    if len(lacks) == 1:
        raise UserError(f"{lacks[0][0]}.", lacks[0][1])
    if lacks:
        listed = "".join(f"\n{number}. {lack}. {remedy}" for number, (lack, remedy) in enumerate(lacks, start=1))
        raise UserError(f"{len(lacks)} problems must be fixed first:{listed}")

"""Checks of a machine and a cluster that take seconds and save hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from cluster.errors import UserError


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


def check_memory(least: int) -> Finding:
    """Free memory of this machine, in bytes."""
    free = psutil.virtual_memory().available
    text = f"{free / 2**30:.1f} GiB free"
    if free < least:
        return Finding(
            "memory",
            text,
            f"at least {least / 2**30:.1f} GiB are needed",
            "Close other programs, or run on a larger machine.",
        )
    return Finding("memory", text)


def require(findings: Sequence[Finding]) -> None:
    """Raise one `UserError` that names every lack."""
    lacks = [finding for finding in findings if finding.lack]
    if lacks:
        raise UserError(
            "; ".join(finding.lack for finding in lacks) + ".", " ".join(finding.remedy for finding in lacks)
        )

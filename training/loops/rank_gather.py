"""Gathers a value from every rank of a training."""

from __future__ import annotations

from typing import TypeVar, cast

import torch.distributed as dist

Value = TypeVar("Value")


def gathered(value: Value) -> list[Value]:
    """Return the values of all ranks, in rank order, on every rank. All ranks must call it together."""
    everywhere: list[Value | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, value)
    return cast("list[Value]", everywhere)

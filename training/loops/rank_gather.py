"""What all ranks know, brought together on each."""

from __future__ import annotations

from typing import TypeVar, cast

import torch.distributed as dist

Value = TypeVar("Value")


def gathered(value: Value) -> list[Value]:
    """The values of all ranks, in their order; the same list on each. Collective."""
    everywhere: list[Value | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, value)
    return cast("list[Value]", everywhere)

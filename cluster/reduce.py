"""Sums over shards by long-lived actors, the same to the last bit for any number of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import ray

from cluster.errors import user_error_in
from cluster.shapes import WorkerShape


class _ReduceActor:
    """Holds one worker, built at the first call: the call brings what is needed, so a restarted actor has it too."""

    def __init__(self) -> None:
        self._worker: Any = None

    def call(self, recipe: Sequence[ray.ObjectRef], method: str, index: int, argument: Any) -> Any:
        if self._worker is None:
            build, arguments = ray.get(recipe[0])
            self._worker = build(**arguments)
        return getattr(self._worker, method)(index, argument)


class ReducePool:
    """Actors that keep their shards in memory between calls, for methods that pass over them many times.

    Shard k always goes to actor k mod n, so what the worker caches for it is used again. Ray restarts an actor
    that dies and repeats its calls; a worker must therefore be able to rebuild what it caches.

    Parameters
    ----------
    build, arguments : `build(**arguments)` makes a worker inside an actor; its methods take
        (shard index, argument).
    indices : shards, in the order in which results are returned.
    size, shape : number of actors, and what each takes.
    """

    def __init__(
        self,
        build: Callable[..., Any],
        arguments: Mapping[str, Any],
        indices: Sequence[int],
        size: int,
        shape: WorkerShape,
    ) -> None:
        self._indices = list(indices)
        actor = ray.remote(_ReduceActor).options(
            num_cpus=shape.cpus, num_gpus=shape.gpus, max_restarts=-1, max_task_retries=-1
        )
        self._actors = [actor.remote() for _ in range(min(size, len(self._indices)))]
        # In a list, so that Ray passes the reference on instead of the object.
        self._recipe = [ray.put((build, dict(arguments)))]

    def __enter__(self) -> ReducePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def map(self, method: str, argument: Any = None, indices: Sequence[int] | None = None) -> Iterator[Any]:
        """The results of `method(index, argument)` for every shard, or for `indices`, in their order.

        At most four calls an actor are outstanding, so that results never pile up on the driver.
        """
        shared = ray.put(argument)
        waiting: list[ray.ObjectRef] = []
        actors = itertools.cycle(self._actors)
        window = 4 * len(self._actors)
        try:
            for index in self._indices if indices is None else indices:
                waiting.append(next(actors).call.remote(self._recipe, method, index, shared))
                if len(waiting) >= window:
                    yield ray.get(waiting.pop(0))
            while waiting:
                yield ray.get(waiting.pop(0))
        except ray.exceptions.RayTaskError as error:
            fault = user_error_in(error)
            if fault is not None:
                raise fault from error
            raise

    def call(self, method: str, index: int, argument: Any = None) -> Any:
        """The result of `method(index, argument)` for one number, always from the same actor."""
        return ray.get(self._actors[index % len(self._actors)].call.remote(self._recipe, method, index, argument))

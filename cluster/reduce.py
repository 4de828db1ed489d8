"""Sums over shards by long-lived actors, identical to the last bit for any number of actors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from cluster.errors import UserError, user_error_in
from cluster.resources import ClusterView
from cluster.shapes import WorkerShape
from cluster.shards import WORKER_DEATHS

log = logging.getLogger("dealrec.cluster")

#: Checks that actors may take to start before the pool continues with those that have.
_LOOKS_TO_START = 4


@dataclass(frozen=True)
class ReducePatience:
    """The failures and delays that a pool tolerates.

    Attributes
    ----------
    look_seconds : interval at which a long call checks the live nodes.
    deaths : how often Ray restarts an actor that died.
    restarts : how often the pool is rebuilt after an actor dies for good: it died too often, or Ray could not recover
        its node.
    """

    look_seconds: float = 15.0
    deaths: int = WORKER_DEATHS
    restarts: int = 3


_PATIENCE = ReducePatience()


class _ReduceActor:
    """Holds one worker, built at the first call. Each call brings the recipe, so a restarted actor can rebuild it."""

    def __init__(self) -> None:
        self._worker: object = None

    def started(self) -> None:
        """Return once the actor has been scheduled."""

    def call(self, recipe: Sequence[ray.ObjectRef], method: str, index: int, argument: object) -> object:
        if self._worker is None:
            build, arguments = ray.get(recipe[0])
            self._worker = build(**arguments)
        return getattr(self._worker, method)(index, argument)


@dataclass(frozen=True)
class _Call:
    """A call for one shard: its position in the pass, which picks the actor, and a reference to its result."""

    position: int
    method: str
    index: int
    argument: ray.ObjectRef
    result: ray.ObjectRef | None = None


class ReducePool:
    """Actors that keep their shards in memory, for methods that pass over the shards many times.

    Shard k always goes to actor k mod n, so that actor can reuse what it cached. Ray restarts an actor that dies and
    repeats its calls; a worker must therefore be able to rebuild its cache. If a node is lost without which the
    actors do not fit, or other jobs hold the CPUs, the pool continues with fewer actors. It replaces the
    actors when Ray has given up on one, as often as `patience` allows.

    Parameters
    ----------
    build, arguments : `build(**arguments)` makes a worker inside an actor. Its methods take (shard index, argument).
    indices : shards, in the order in which results are returned.
    size, shape : number of actors, and the resources of each.
    patience : the failures and delays that the pool tolerates.
    """

    def __init__(
        self,
        build: Callable[..., object],
        arguments: Mapping[str, object],
        indices: Sequence[int],
        size: int,
        shape: WorkerShape,
        patience: ReducePatience = _PATIENCE,
    ) -> None:
        self._indices = list(indices)
        self._shape = shape
        self._patience = patience
        self._restarts = patience.restarts
        # In a list, so that Ray passes on the reference rather than the object.
        self._recipe = [ray.put((build, dict(arguments)))]
        self._actors = self._start(min(size, len(self._indices)))

    def _start(self, size: int) -> list[ray.actor.ActorHandle]:
        actor = ray.remote(_ReduceActor).options(
            num_cpus=self._shape.cpus,
            num_gpus=self._shape.gpus,
            max_restarts=self._patience.deaths,
            max_task_retries=self._patience.deaths,
        )
        actors = [actor.remote() for _ in range(size)]
        # Queued before any call, so that even a busy actor has answered it.
        self._starting = [each.started.remote() for each in actors]
        return actors

    def __enter__(self) -> ReducePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def map(
        self, method: str, argument: object = None, indices: Sequence[int] | None = None, ahead: int = 4
    ) -> Iterator[Any]:
        """Yield the results of `method(index, argument)` for every shard, or for `indices`, in order.

        At most `ahead` calls per actor are outstanding, which bounds the results in memory; use 1 for large results.
        """
        shared = ray.put(argument)
        waiting: list[_Call] = []
        window = ahead * len(self._actors)
        try:
            for position, index in enumerate(self._indices if indices is None else indices):
                waiting.append(self._submit(_Call(position, method, index, shared)))
                if len(waiting) >= window:
                    yield self._first_result(waiting)
            while waiting:
                yield self._first_result(waiting)
        except ray.exceptions.RayTaskError as error:
            fault = user_error_in(error)
            if fault is not None:
                raise fault from error
            raise

    def call(self, method: str, index: int, argument: object = None) -> Any:
        """Return the result of `method(index, argument)`; calls with the same index go to the same actor."""
        return self._first_result([self._submit(_Call(index, method, index, ray.put(argument)))])

    def _submit(self, call: _Call) -> _Call:
        actor = self._actors[call.position % len(self._actors)]
        return replace(call, result=actor.call.remote(self._recipe, call.method, call.index, call.argument))

    def _first_result(self, waiting: list[_Call]) -> Any:
        """Remove and return the first call's result, with fewer actors if nodes are gone for good."""
        looks = 0
        while True:
            if not ray.wait([waiting[0].result], timeout=self._patience.look_seconds)[0]:
                looks += 1
                capacity = ClusterView.now(()).capacity(self._shape)
                if looks % _LOOKS_TO_START == 0:
                    capacity = min(capacity, self._count_started())
                if 0 < capacity < len(self._actors):
                    # An actor waiting for a node to return would keep its calls, while the others hold what is left.
                    log.warning("The cluster has room for only %d of %d workers.", capacity, len(self._actors))
                    self._restart(capacity, waiting)
                elif capacity == 0 and looks % _LOOKS_TO_START == 0:
                    log.warning("No worker can start. Waiting for other work to finish or for nodes to join.")
                continue
            try:
                result = ray.get(waiting[0].result)
            except (RayActorError, OutOfMemoryError) as error:
                if self._restarts == 0:
                    raise UserError(
                        f"Workers keep dying, probably out of memory ({str(error).splitlines()[0]}).",
                        "Give the nodes more memory, or lower influence.curvature_samples or cluster.actors. Then run "
                        "the same command again to continue.",
                    ) from error
                self._restarts -= 1
                log.warning("A worker died for good. Restarting all workers.")
                self._restart(len(self._actors), waiting)
                continue
            waiting.pop(0)
            return result

    def _count_started(self) -> int:
        """Count the actors that have started or have died trying."""
        return len(ray.wait(self._starting, num_returns=len(self._starting), timeout=0)[0])

    def _restart(self, size: int, waiting: list[_Call]) -> None:
        """Replace all actors, and resubmit every call that has no result yet."""
        self._end()
        self._actors = self._start(size)
        waiting[:] = [self._submit(call) for call in waiting]

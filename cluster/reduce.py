"""Sums over shards by long-lived actors, the same to the last bit for any number of them."""

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

#: How many looks actors may take to start before those that have started go on without them.
_LOOKS_TO_START = 4


@dataclass(frozen=True)
class ReducePatience:
    """What a pool puts up with.

    Attributes
    ----------
    look_seconds : a call that takes longer has the living nodes counted, again and again.
    deaths : how often Ray restarts an actor that died.
    restarts : how often all actors are replaced when one dies so that Ray does not restart it: it has died too often,
        or its node went in a way that Ray cannot mend.
    """

    look_seconds: float = 15.0
    deaths: int = WORKER_DEATHS
    restarts: int = 3


_PATIENCE = ReducePatience()


class _ReduceActor:
    """Holds one worker, built at the first call: the call brings what is needed, so a restarted actor has it too."""

    def __init__(self) -> None:
        self._worker: Any = None

    def started(self) -> None:
        """Answers when the actor has been given its room."""

    def call(self, recipe: Sequence[ray.ObjectRef], method: str, index: int, argument: Any) -> Any:
        if self._worker is None:
            build, arguments = ray.get(recipe[0])
            self._worker = build(**arguments)
        return getattr(self._worker, method)(index, argument)


@dataclass(frozen=True)
class _Call:
    """A call of one shard: its place in the pass, which chooses the actor, and where its result will be."""

    place: int
    method: str
    index: int
    argument: ray.ObjectRef
    result: Any = None


class ReducePool:
    """Actors that keep their shards in memory between calls, for methods that pass over them many times.

    Shard k always goes to actor k mod n, so what the worker caches for it is used again. Ray restarts an actor
    that dies and repeats its calls; a worker must therefore be able to rebuild what it caches. When a node is lost
    that the actors do not fit without, or others hold the CPUs that some of them wait for, fewer actors go on. An
    actor that Ray gives up is replaced a few times.

    Parameters
    ----------
    build, arguments : `build(**arguments)` makes a worker inside an actor; its methods take
        (shard index, argument).
    indices : shards, in the order in which results are returned.
    size, shape : number of actors, and what each takes.
    patience : what the pool puts up with.
    """

    def __init__(
        self,
        build: Callable[..., Any],
        arguments: Mapping[str, Any],
        indices: Sequence[int],
        size: int,
        shape: WorkerShape,
        patience: ReducePatience = _PATIENCE,
    ) -> None:
        self._indices = list(indices)
        self._shape = shape
        self._patience = patience
        self._restarts = patience.restarts
        # In a list, so that Ray passes the reference on instead of the object.
        self._recipe = [ray.put((build, dict(arguments)))]
        self._actors = self._start(min(size, len(self._indices)))

    def _start(self, size: int) -> list[Any]:
        actor = ray.remote(_ReduceActor).options(
            num_cpus=self._shape.cpus,
            num_gpus=self._shape.gpus,
            max_restarts=self._patience.deaths,
            max_task_retries=self._patience.deaths,
        )
        actors = [actor.remote() for _ in range(size)]
        # Before any call, so that a busy actor has answered.
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
        self, method: str, argument: Any = None, indices: Sequence[int] | None = None, ahead: int = 4
    ) -> Iterator[Any]:
        """The results of `method(index, argument)` for every shard, or for `indices`, in their order.

        At most `ahead` calls an actor are outstanding, so that results never pile up; 1 for large ones.
        """
        shared = ray.put(argument)
        waiting: list[_Call] = []
        window = ahead * len(self._actors)
        try:
            for place, index in enumerate(self._indices if indices is None else indices):
                waiting.append(self._submit(_Call(place, method, index, shared)))
                if len(waiting) >= window:
                    yield self._first_result(waiting)
            while waiting:
                yield self._first_result(waiting)
        except ray.exceptions.RayTaskError as error:
            fault = user_error_in(error)
            if fault is not None:
                raise fault from error
            raise

    def call(self, method: str, index: int, argument: Any = None) -> Any:
        """The result of `method(index, argument)` for one number, always from the same actor."""
        return self._first_result([self._submit(_Call(index, method, index, ray.put(argument)))])

    def _submit(self, call: _Call) -> _Call:
        actor = self._actors[call.place % len(self._actors)]
        return replace(call, result=actor.call.remote(self._recipe, call.method, call.index, call.argument))

    def _first_result(self, waiting: list[_Call]) -> Any:
        """Take the first of the calls when it has its result, on fewer actors if nodes have gone for good."""
        looks = 0
        while True:
            if not ray.wait([waiting[0].result], timeout=self._patience.look_seconds)[0]:
                looks += 1
                room = ClusterView.now(()).room(self._shape)
                if looks % _LOOKS_TO_START == 0:
                    room = min(room, self._count_started())
                if 0 < room < len(self._actors):
                    # An actor that waits for a node's return would keep its calls, and the others hold what is left.
                    log.warning("The cluster has room for %d of %d workers.", room, len(self._actors))
                    self._start_anew(room, waiting)
                elif room == 0 and looks % _LOOKS_TO_START == 0:
                    log.warning("No worker has room to start in; waiting for others to leave, or for nodes to come.")
                continue
            try:
                result = ray.get(waiting[0].result)
            except (RayActorError, OutOfMemoryError) as error:
                if self._restarts == 0:
                    raise UserError(
                        f"Workers die again and again, as they do that lack memory ({str(error).splitlines()[0]}).",
                        "Give the nodes more memory, or set influence.curvature_samples or cluster.actors lower; the "
                        "same command goes on.",
                    ) from error
                self._restarts -= 1
                log.warning("A worker was lost for good; starting all of them anew.")
                self._start_anew(len(self._actors), waiting)
                continue
            waiting.pop(0)
            return result

    def _count_started(self) -> int:
        """Actors that have started, or died trying, which their calls tell."""
        return len(ray.wait(self._starting, num_returns=len(self._starting), timeout=0)[0])

    def _start_anew(self, size: int, waiting: list[_Call]) -> None:
        """Other actors, which are given all calls that have no result yet."""
        self._end()
        self._actors = self._start(size)
        waiting[:] = [self._submit(call) for call in waiting]

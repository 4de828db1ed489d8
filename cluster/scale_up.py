"""Asking an autoscaler for the nodes that a stage needs, and waiting for them no longer than is sensible."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import ray

from cluster.errors import UserError
from cluster.progress import format_seconds
from cluster.resources import ClusterView
from cluster.shapes import WorkerShape, shape_text

log = logging.getLogger("dealrec.cluster")

_POLL_SECONDS = 2.0
#: Nodes of one request come in a bunch; when none has come for so long, the work begins with those that are there.
_SETTLE_SECONDS = 20.0
#: Shapes asked for and not taken back; a request is the whole cluster's, so another's is left alone.
_asked: set[WorkerShape] = set()


def grow(
    worker: WorkerShape,
    wanted: int,
    least: int,
    wait_seconds: float,
    view: Callable[[], ClusterView],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ClusterView:
    """Ask for room for `wanted` workers and wait until there is some; what is there then.

    A cluster that cannot grow is returned as it is. The request replaces that of an earlier stage, also when all nodes
    have come meanwhile, so that those which only the earlier one needed may go.

    Parameters
    ----------
    least : workers without which the work cannot begin.
    wait_seconds : how long the autoscaler may take for them. Once they fit, the wait goes on only while nodes
        keep coming.

    Raises `UserError` when there is no room for `least` in time.
    """
    now = view()
    if not now.addable and not _asked:
        return now
    _asked.add(worker)
    request_resources(bundles=[worker.bundle()] * wanted)
    if not now.addable:
        return now
    start = changed = clock()
    while now.room(worker) < wanted:
        elapsed, since_change = clock() - start, clock() - changed
        enough = now.room(worker) >= least
        if elapsed >= wait_seconds or (enough and since_change >= _SETTLE_SECONDS):
            break
        sleep(_POLL_SECONDS)
        later = view()
        if len(later.living) != len(now.living):
            changed = clock()
            log.info("%d nodes, room for %d of %d workers", len(later.living), later.room(worker), wanted)
        now = later
    if now.room(worker) < least:
        raise UserError(
            f"The autoscaler gave room for {now.room(worker)} of {least} workers "
            f"({shape_text(worker)} each) in {format_seconds(wait_seconds)}.",
            "See why its nodes do not start (quota, image, unschedulable pods), or raise cluster.wait_seconds.",
        )
    return now


def request_resources(bundles: list[dict[str, float]]) -> None:
    """Ray's own; its module takes a second to load, which only a cluster that can grow has to pay."""
    from ray.autoscaler import sdk

    sdk.request_resources(bundles=bundles)


def answer_for(worker: WorkerShape) -> None:
    """Have `release` take back what tasks of ours ask for such workers: a request outlives the process that made it."""
    _asked.add(worker)


def release() -> None:
    """Take back what was asked of the autoscaler, if anything was, so that nothing keeps idle nodes."""
    if _asked and ray.is_initialized():
        _asked.clear()
        request_resources(bundles=[])

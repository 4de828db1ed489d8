"""Requesting nodes from an autoscaler, and waiting for them for a bounded time."""

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
#: Nodes of one request arrive together. If none has arrived for this long, work starts with those that are there.
_SETTLE_SECONDS = 20.0
#: Shapes requested and not yet released. A request covers the whole cluster, so requests of others are left alone.
_requested: set[WorkerShape] = set()


def ensure_capacity(
    worker: WorkerShape,
    wanted: int,
    least: int,
    wait_seconds: float,
    view: Callable[[], ClusterView],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ClusterView:
    """Request room for `wanted` workers, wait for it, and return the resulting view of the cluster.

    If no nodes can be added, return at once. The request replaces that of an earlier stage, even if all nodes have
    arrived, so that nodes needed only by the earlier stage may be removed.

    Parameters
    ----------
    least : number of workers without which the work cannot start.
    wait_seconds : how long the autoscaler may take to make room for them. Once they fit, waiting continues only
        while nodes keep arriving.

    Raises `UserError` if there is no room for `least` workers in time.
    """
    now = view()
    if not now.addable and not _requested:
        return now
    _requested.add(worker)
    request_resources(bundles=[worker.bundle()] * wanted)
    if not now.addable:
        return now
    start = changed = clock()
    while now.capacity(worker) < wanted:
        elapsed, since_change = clock() - start, clock() - changed
        enough = now.capacity(worker) >= least
        if elapsed >= wait_seconds or (enough and since_change >= _SETTLE_SECONDS):
            break
        sleep(_POLL_SECONDS)
        later = view()
        if len(later.living) != len(now.living):
            changed = clock()
            log.info("%d nodes, room for %d of %d workers", len(later.living), later.capacity(worker), wanted)
        now = later
    if now.capacity(worker) < least:
        raise UserError(
            f"The autoscaler made room for {now.capacity(worker)} of {least} workers "
            f"({shape_text(worker)} each) in {format_seconds(wait_seconds)}.",
            "Find out why its nodes do not start (quota, image, unschedulable pods), or raise cluster.wait_seconds.",
        )
    return now


def request_resources(bundles: list[dict[str, float]]) -> None:
    """Call Ray's function of this name. Its module takes a second to load, so it is imported only when needed."""
    from ray.autoscaler import sdk

    sdk.request_resources(bundles=bundles)


def adopt_request(worker: WorkerShape) -> None:
    """Have `release_requests` also withdraw what a task requests for such workers: requests outlive their process."""
    _requested.add(worker)


def release_requests() -> None:
    """Withdraw all requests to the autoscaler, so that no idle nodes are kept."""
    if _requested and ray.is_initialized():
        _requested.clear()
        request_resources(bundles=[])

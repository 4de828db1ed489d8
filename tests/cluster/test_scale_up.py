"""How a stage waits for an autoscaler, on a simulated clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from cluster import scale_up
from cluster.errors import UserError
from cluster.resources import ClusterView
from cluster.scale_up import adopt_request, ensure_capacity, release_requests
from cluster.shapes import NodeShape, WorkerShape

WORKER = WorkerShape(cpus=1)
NODE = NodeShape(cpus=2)


class Cluster:
    """A cluster whose nodes arrive at the given `times` (seconds), with the requests made to its autoscaler."""

    def __init__(self, times: Sequence[float], limit: int) -> None:
        self.times = times
        self.limit = limit
        self.now = 0.0
        self.asked: list[list[dict[str, float]]] = []

    def view(self) -> ClusterView:
        there = sum(time <= self.now for time in self.times)
        return ClusterView((NODE,) * there, (NODE,) * (self.limit - there))

    def grow(self, wanted: int, least: int, wait: float) -> ClusterView:
        return ensure_capacity(WORKER, wanted, least, wait, self.view, lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    made = Cluster([30, 32, 60], limit=4)
    monkeypatch.setattr(scale_up, "request_resources", lambda bundles: made.asked.append(bundles))
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    yield made
    release_requests()


def test_what_is_asked_for_is_waited_for(cluster: Cluster) -> None:
    assert cluster.grow(wanted=4, least=4, wait=100).capacity(WORKER) == 4
    assert cluster.asked == [[{"CPU": 1.0}] * 4]
    assert cluster.now == 32


def test_with_enough_to_begin_the_wait_ends_when_no_more_come(cluster: Cluster) -> None:
    assert cluster.grow(wanted=8, least=1, wait=1000).capacity(WORKER) == 4
    assert 32 < cluster.now < 60


def test_too_little_in_time_is_refused(cluster: Cluster) -> None:
    with pytest.raises(UserError, match=r"room for 4 of 6 workers \(1 CPU each\) in 50 s") as caught:
        cluster.grow(wanted=6, least=6, wait=50)
    assert "cluster.wait_seconds" in caught.value.remedy


def test_a_cluster_that_cannot_grow_is_not_asked(cluster: Cluster) -> None:
    cluster.limit, cluster.now = 3, 100
    assert cluster.grow(wanted=9, least=9, wait=10).capacity(WORKER) == 6
    release_requests()
    assert cluster.asked == []


def test_a_later_stage_replaces_the_request_though_all_nodes_are_there(cluster: Cluster) -> None:
    cluster.limit, cluster.now = 3, 50
    cluster.grow(wanted=6, least=1, wait=100)
    assert cluster.now == 60
    assert not cluster.view().addable
    assert cluster.grow(wanted=1, least=1, wait=100).capacity(WORKER) == 6
    assert [len(bundles) for bundles in cluster.asked] == [6, 1]
    assert cluster.now == 60


def test_what_tasks_of_ours_ask_for_is_taken_back(cluster: Cluster) -> None:
    adopt_request(WORKER)
    release_requests()
    assert cluster.asked == [[]]


def test_the_request_is_taken_back_once(cluster: Cluster) -> None:
    cluster.grow(wanted=2, least=2, wait=100)
    release_requests()
    release_requests()
    assert cluster.asked[1:] == [[]]

import logging
import threading

import pytest

from cluster.capacity_watch import CapacityWatch, watch_capacity
from cluster.errors import UserError
from cluster.resources import ClusterView
from cluster.shapes import NodeShape, WorkerShape
from cluster.stopping import STOP

HEAD = NodeShape(cpus=0, gpus=0, memory=0)
SMALL = NodeShape(cpus=3, gpus=0, memory=2**33)
NODE = NodeShape(cpus=4, gpus=0, memory=2**33)


def test_the_loss_of_all_room_is_said_once_and_its_return(caplog: pytest.LogCaptureFixture) -> None:
    living = [(HEAD, NODE), (HEAD, SMALL), (HEAD,), (HEAD, NODE), (HEAD, NODE), (HEAD,)]
    views = iter([ClusterView(nodes) for nodes in living])
    seconds = iter(range(100))
    watch = CapacityWatch(WorkerShape(cpus=2), 2, lambda: next(views), clock=lambda: float(next(seconds)))
    caplog.set_level(logging.INFO, "dealrec.cluster")
    said, lacking = [], []
    for _ in living:
        caplog.clear()
        watch.look()
        said.append([record.levelname for record in caplog.records])
        lacking.append(watch.lacking_seconds)
    assert said == [[], ["WARNING"], [], ["INFO"], [], ["WARNING"]]
    assert lacking == [0, 1, 2, 0, 0, 1]


def test_a_block_without_room_is_left_after_its_time(ray_local: None) -> None:
    def wait() -> None:
        threading.Event().wait(60)

    many, message = WorkerShape(cpus=999), r"too few workers \(1 needed, 999 CPU each\) for 0.0 s"
    with STOP.handled(), pytest.raises(UserError, match=message), watch_capacity(many, 1, 0.0, look_seconds=0.01):
        wait()


def test_a_block_ends_as_it_would_while_there_is_time(ray_local: None) -> None:
    many = WorkerShape(cpus=999)
    with STOP.handled(), pytest.raises(KeyboardInterrupt), watch_capacity(many, 1, 60.0, look_seconds=0.01):
        raise KeyboardInterrupt
    # Without a signal handler, as in a worker, nothing can be interrupted.
    with watch_capacity(many, 1, 0.0, look_seconds=0.01):
        threading.Event().wait(0.1)

import logging

import pytest

from cluster.resources import ClusterView
from cluster.room_watch import RoomWatch
from cluster.shapes import NodeShape, WorkerShape

HEAD = NodeShape(cpus=0, gpus=0, memory=0)
SMALL = NodeShape(cpus=3, gpus=0, memory=2**33)
NODE = NodeShape(cpus=4, gpus=0, memory=2**33)


def test_the_loss_of_all_room_is_said_once_and_its_return(caplog: pytest.LogCaptureFixture) -> None:
    living = [(HEAD, NODE), (HEAD, SMALL), (HEAD,), (HEAD, NODE), (HEAD, NODE), (HEAD,)]
    views = iter([ClusterView(nodes) for nodes in living])
    watch = RoomWatch(WorkerShape(cpus=2), 2, lambda: next(views))
    caplog.set_level(logging.INFO, "dealrec.cluster")
    said = []
    for _ in living:
        caplog.clear()
        watch.look()
        said.append([record.levelname for record in caplog.records])
    assert said == [[], ["WARNING"], [], ["INFO"], [], ["WARNING"]]

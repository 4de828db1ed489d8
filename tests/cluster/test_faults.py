"""A real cluster of two nodes, one of which dies during a pass, and the location of broadcasts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import Storage
from tests.cluster.fault_driver import SHARDS, WEIGHTS
from tests.killing import ROOT
from tests.ray_cluster import Cluster, environment, several_nodes

pytestmark = pytest.mark.slow

_PATIENCE = 600.0
EXPECTED = [float(WEIGHTS[index :: len(SHARDS)].sum()) for index in SHARDS]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with several_nodes(cpus=1) as made:
        yield made


def drive(cluster: Cluster, folder: Path, kind: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.cluster.fault_driver", cluster.address, str(folder), kind]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def result_of(driver: subprocess.Popen[str], folder: Path) -> Any:
    said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    return Storage.at(folder).read_json("result.json")


def kill_one_that_works(
    driver: subprocess.Popen[str], cluster: Cluster, node: subprocess.Popen[bytes], folder: Path
) -> set[str]:
    """Kill the node once both nodes have started a shard. Return the shards started by then."""
    trace = Storage.at(folder).child("trace")
    end = time.monotonic() + _PATIENCE
    while len({name.split("-")[1] for name in trace.list()}) < 2:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)
    cluster.lose(node)
    return {name.split("-")[0] for name in trace.list()}


def test_a_node_dies_while_shards_are_scored(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.add_node(cpus=1)
    driver = drive(cluster, tmp_path, "map")
    begun = kill_one_that_works(driver, cluster, node, tmp_path)
    assert len(begun) < len(SHARDS)
    result = result_of(driver, tmp_path)
    assert [total for total, _ in result] == EXPECTED
    # No shard was restarted except the one in the node's hands, if it was not between two.
    again = [index for index, (_, attempt) in enumerate(result) if attempt > 1]
    assert len(again) <= 1
    by_node = Counter(name.split("-")[1] for name in Storage.at(tmp_path).child("trace").list())
    assert len(by_node) == 2
    assert sum(by_node.values()) == len(SHARDS) + len(again)


def test_a_node_dies_while_sums_are_taken(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.add_node(cpus=1)
    driver = drive(cluster, tmp_path, "reduce")
    kill_one_that_works(driver, cluster, node, tmp_path)
    assert result_of(driver, tmp_path) == [EXPECTED, EXPECTED]
    # The second pass found one node, which then had all of the shards.
    names = Storage.at(tmp_path).child("trace").list()
    by_node = [sum(name.endswith(end) for name in names) for end in {name.split("-")[1] for name in names}]
    assert max(by_node) == len(SHARDS)
    assert 0 < min(by_node) < len(SHARDS)


def test_a_broadcast_is_one_copy_a_node_and_outlives_its_object(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(cpus=1)
    found = result_of(drive(cluster, tmp_path, "broadcast"), tmp_path)
    assert found["located"] == sorted(found["nodes"])
    assert len(found["nodes"]) == 2
    assert found["after_loss"] == [2 * float(WEIGHTS.sum())] * 2

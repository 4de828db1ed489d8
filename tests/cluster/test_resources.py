import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from cluster.resources import ClusterView, addable_nodes, plan_pool
from cluster.shapes import NodeGroup, NodeShape, WorkerShape

LAPTOP = ClusterView((NodeShape(2, 0, 8 << 30),))
FARM = ClusterView((NodeShape(16, 2, 1 << 38),) * 4)
#: A head without CPUs, and a group that starts from nothing.
SLEEPING = ClusterView((NodeShape(0),), (NodeShape(8, 0, 32 << 30),) * 3)


def test_no_more_workers_than_shards_or_cpus() -> None:
    assert plan_pool(LAPTOP, 100, None, gpus=0).maximum == 2
    assert plan_pool(FARM, 3, None, gpus=0).maximum == 3
    assert plan_pool(FARM, 100, 5, gpus=0).maximum == 5
    assert plan_pool(FARM, 0, None, gpus=0).maximum == 1


def test_gpus_bound_the_pool() -> None:
    plan = plan_pool(FARM, 100, None, gpus=1)
    assert (plan.maximum, plan.shape.gpus) == (8, 1)


def test_nodes_to_come_count_for_the_plan_and_not_for_the_start() -> None:
    plan = plan_pool(SLEEPING, None, None, gpus=0)
    assert (plan.minimum, plan.maximum) == (1, 24)
    grown = plan_pool(ClusterView((*SLEEPING.living, *SLEEPING.addable)), None, None, gpus=0)
    assert (grown.minimum, grown.maximum) == (24, 24)


def test_what_can_never_be_scheduled_is_refused() -> None:
    with pytest.raises(UserError, match=r"cluster.actors asks for 3 workers .* CPUs allow 2"):
        plan_pool(LAPTOP, 100, 3, gpus=0)
    assert plan_pool(LAPTOP, 100, 3, gpus=0, fewer_will_do=True).maximum == 2
    with pytest.raises(UserError, match="asks for 1 GPU a worker and the cluster has 0"):
        plan_pool(LAPTOP, 100, None, gpus=1)
    with pytest.raises(UserError, match="No node of the cluster has a CPU") as caught:
        plan_pool(ClusterView((NodeShape(0),)), None, None, gpus=0)
    assert "cluster.node_groups" in caught.value.remedy


def test_a_gpu_worker_needs_its_cpu_on_the_same_node() -> None:
    split = ClusterView((NodeShape(cpus=0, gpus=4), NodeShape(cpus=8)))
    assert split.room(WorkerShape(1, 1)) == 0
    assert split.room(WorkerShape(0, 1)) == 4


nodes = st.builds(NodeShape, st.integers(0, 3), st.integers(0, 2))
groups = st.lists(st.builds(NodeGroup, st.integers(0, 4), nodes), max_size=3)


@given(st.lists(nodes, max_size=6), groups)
def test_a_group_never_exceeds_its_limit_nor_counts_a_living_node_twice(
    living: list[NodeShape], groups: list[NodeGroup]
) -> None:
    most = sum(group.max_nodes for group in groups)
    added = addable_nodes(living, groups)
    assert most - len(living) <= len(added) <= most
    # Once all are there, none is left to come.
    assert addable_nodes([*living, *added], groups) == ()

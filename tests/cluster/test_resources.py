import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from cluster.resources import ClusterView, addable_nodes, plan_pool
from cluster.shapes import NodeGroup, NodeShape, WorkerShape

CPU_WORKER, GPU_WORKER = WorkerShape(), WorkerShape(gpus=1)
LAPTOP = ClusterView((NodeShape(2, 0, 8 << 30),))
FARM = ClusterView((NodeShape(16, 2, 1 << 38),) * 4)
#: A head without CPUs, and a group that starts empty.
SLEEPING = ClusterView((NodeShape(0),), (NodeShape(8, 0, 32 << 30),) * 3)


def test_no_more_workers_than_shards_or_cpus() -> None:
    assert plan_pool(LAPTOP, 100, None, CPU_WORKER).maximum == 2
    assert plan_pool(FARM, 3, None, CPU_WORKER).maximum == 3
    assert plan_pool(FARM, 100, 5, CPU_WORKER).maximum == 5
    assert plan_pool(FARM, 0, None, CPU_WORKER).maximum == 1


def test_gpus_bound_the_pool() -> None:
    plan = plan_pool(FARM, 100, None, GPU_WORKER)
    assert (plan.maximum, plan.shape.gpus) == (8, 1)


def test_nodes_to_come_count_for_the_plan_and_not_for_the_start() -> None:
    plan = plan_pool(SLEEPING, None, None, CPU_WORKER)
    assert (plan.minimum, plan.maximum) == (1, 24)
    grown = plan_pool(ClusterView((*SLEEPING.living, *SLEEPING.addable)), None, None, CPU_WORKER)
    assert (grown.minimum, grown.maximum) == (24, 24)


def test_what_can_never_be_scheduled_is_refused() -> None:
    with pytest.raises(UserError, match=r"actors asks for 3 workers, but the cluster has room for 2 \(1 CPU each\)"):
        plan_pool(LAPTOP, 100, 3, CPU_WORKER)
    assert plan_pool(LAPTOP, 100, 3, CPU_WORKER, allow_fewer=True).maximum == 2
    with pytest.raises(UserError, match="Each worker needs 1 GPU, but the cluster has 0"):
        plan_pool(LAPTOP, 100, None, GPU_WORKER)
    with pytest.raises(UserError, match="No node of the cluster has 1 CPU for") as caught:
        plan_pool(ClusterView((NodeShape(0),)), None, None, CPU_WORKER)
    assert "cluster.node_groups" in caught.value.remedy


def test_memory_bounds_the_pool_where_it_is_known() -> None:
    large = WorkerShape(memory=3 << 30)
    assert plan_pool(LAPTOP, 100, None, large).maximum == 2
    assert plan_pool(LAPTOP, 100, None, WorkerShape(memory=5 << 30)).maximum == 1
    assert plan_pool(ClusterView((NodeShape(2),)), 100, None, large).maximum == 2
    assert large.bundle() == {"CPU": 1.0, "memory": float(3 << 30)}
    with pytest.raises(UserError, match="1 CPU and 9 GiB of memory"):
        plan_pool(LAPTOP, 100, None, WorkerShape(memory=9 << 30))


def test_a_gpu_worker_needs_its_cpu_on_the_same_node() -> None:
    split = ClusterView((NodeShape(cpus=0, gpus=4), NodeShape(cpus=8)))
    assert split.capacity(WorkerShape(1, 1)) == 0
    assert split.capacity(WorkerShape(0, 1)) == 4


nodes = st.builds(NodeShape, st.integers(0, 3), st.integers(0, 2))
groups = st.lists(st.builds(NodeGroup, st.integers(0, 4), nodes), max_size=3)


@given(st.lists(nodes, max_size=6), groups)
def test_a_group_never_exceeds_its_limit_nor_counts_a_living_node_twice(
    living: list[NodeShape], groups: list[NodeGroup]
) -> None:
    most = sum(group.max_nodes for group in groups)
    added = addable_nodes(living, groups)
    assert most - len(living) <= len(added) <= most
    # Once all nodes are there, none can be added.
    assert addable_nodes([*living, *added], groups) == ()

import pytest

from cluster.errors import UserError
from cluster.resources import ClusterView, plan_pool

LAPTOP = ClusterView(nodes=1, cpus=2, gpus=0, memory=8 << 30)
FARM = ClusterView(nodes=4, cpus=64, gpus=8, memory=1 << 40)


def test_no_more_workers_than_shards_or_cpus() -> None:
    assert plan_pool(LAPTOP, 100, None, gpus=0).maximum == 2
    assert plan_pool(FARM, 3, None, gpus=0).maximum == 3
    assert plan_pool(FARM, 100, 5, gpus=0).maximum == 5
    assert plan_pool(FARM, 0, None, gpus=0).maximum == 1


def test_gpus_bound_the_pool() -> None:
    plan = plan_pool(FARM, 100, None, gpus=1)
    assert (plan.maximum, plan.shape.gpus) == (8, 1)


def test_what_can_never_be_scheduled_is_refused() -> None:
    with pytest.raises(UserError, match=r"cluster.actors asks for 3 workers .* CPUs allow 2"):
        plan_pool(LAPTOP, 100, 3, gpus=0)
    with pytest.raises(UserError, match="asks for 1 GPU a worker and the cluster has 0"):
        plan_pool(LAPTOP, 100, None, gpus=1)

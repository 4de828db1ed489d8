from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.progress import Progress, SilentProgress
from cluster.shapes import NodeGroup, NodeShape
from cluster.storage import Storage
from training.loops import launch as module
from training.loops.launch import AgreedError, Launch, launch, launch_once
from training.loops.worker_placement import Placement, require_resources


def _refuse(job: Any, progress: Progress) -> None:
    raise AgreedError(f"{job} is wrong.", "Mend it.")


@pytest.mark.slow
def test_a_fault_that_all_ranks_share_ends_the_run_at_once(tmp_path: Path, ray_local: None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(UserError, match="the job is wrong") as caught:
        launch(_refuse, "the job", Launch("x", "refused", 1, Placement()), Storage.at(tmp_path), SilentProgress())
    assert caught.value.remedy == "Mend it."
    assert signal.getsignal(signal.SIGINT) is handler


def _interrupt(driver: int, progress: Progress) -> None:
    """Sends the driver what Ctrl-C does, then works on for longer than a test waits."""
    os.kill(driver, signal.SIGINT)
    time.sleep(3600)


@pytest.mark.slow
def test_ctrl_c_is_an_interrupt_whatever_ray_makes_of_it(tmp_path: Path, ray_local: None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    run = Launch("x", "interrupted", 1, Placement())
    with pytest.raises(KeyboardInterrupt):
        launch(_interrupt, os.getpid(), run, Storage.at(tmp_path), SilentProgress())
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_run_that_has_ended_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(loop: Any, job: Any, *rest: Any) -> dict[str, int]:
        calls.append(job)
        return {"value": 1}

    monkeypatch.setattr(module, "launch", counted)
    run = Launch("x", "once", 1, Placement())
    for _ in range(2):
        assert launch_once(_refuse, "job", run, Storage.at(tmp_path), SilentProgress()) == {"value": 1}
    assert calls == ["job"]


def test_room_is_counted_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 3.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    on_cpus, on_gpus = Placement(cpus_per_worker=2.0, node_groups=()), Placement(use_gpu=True, node_groups=())
    require_resources("finetune", 2, on_cpus)
    require_resources("finetune", 2, on_gpus)
    with pytest.raises(UserError, match=r"finetune.workers is 3 and each worker needs 2 CPU.*room for 2") as caught:
        require_resources("finetune", 3, on_cpus)
    assert "finetune.workers to 2" in caught.value.remedy
    with pytest.raises(UserError, match="1 CPU and 1 GPU"):
        require_resources("finetune", 3, on_gpus)


def test_nodes_that_an_autoscaler_may_add_count_and_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes: list[dict[str, Any]] = []
    asked: list[Any] = []
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("cluster.scale_up.request_resources", lambda bundles: asked.append(bundles))
    monkeypatch.setattr("time.sleep", lambda _: None)
    group = NodeGroup(2, NodeShape(cpus=1))
    placement = Placement(wait_seconds=0.0, node_groups=(group,))
    with pytest.raises(UserError, match="room for 2"):
        require_resources("surrogate", 3, placement)
    assert asked == []
    with pytest.raises(UserError, match="made room for 0 of 2"):
        require_resources("surrogate", 2, placement)
    assert asked == [[{"CPU": 1.0}] * 2]
    nodes += [{"Alive": True, "Resources": {"CPU": 1.0}}] * 2
    require_resources("surrogate", 2, placement)

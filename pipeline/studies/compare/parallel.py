"""Run arms in parallel: each in its own task, as many at once as the cluster has workers for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import ray

from cluster.capacity_watch import watch_capacity
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.scale_up import adopt_request
from cluster.session import configure_ray_data
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.events import EventLog
from pipeline.stages.worker_pools import cluster_view, tuning_placement
from pipeline.studies.compare.arms import Arm, arm_graph
from pipeline.studies.compare.llm_arms import own_stages

#: How often an arm is retried after its node or process died; its stages resume.
_RETRIES = 3


def arms_at_once(config: Config) -> int:
    """Return how many arms the living nodes can fine-tune side by side.

    GPUs limit the number where there are any. On CPUs the threads of one training worker use a whole node.
    """
    view, workers = cluster_view(config), config.finetune.workers
    placement = tuning_placement(config, view)
    room = view.capacity(placement.worker()) if placement.use_gpu else len(view.living)
    return max(1, room // workers)


def drive_arms(config: Config, run: Storage, arms: Sequence[Arm], count: int, progress: Progress) -> None:
    """Bring arms up to date, `count` at once, each with its share of the evaluation workers.

    The events of an arm are in its own folder. When one arm fails, the others are cancelled; finished stages stay.

    Raises
    ------
    UserError : an arm raised it.
    """
    view = cluster_view(config)
    shape = tuning_placement(config, view).worker()
    if view.addable:
        adopt_request(shape)
    actors = max(1, (config.cluster.actors or view.capacity(shape)) // count)
    config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"actors": actors})})
    # The tasks only wait; the workers that they start take the CPUs and GPUs.
    room = watch_capacity(shape, config.finetune.workers, config.cluster.wait_seconds)
    drive = ray.remote(_drive).options(num_cpus=0, max_retries=_RETRIES)
    waiting, running = deque(arms), set[ray.ObjectRef]()
    progress.update(0, len(arms))
    try:
        with room:
            while waiting or running:
                while waiting and len(running) < count:
                    running.add(drive.remote(config, run, waiting.popleft()))
                (done,), rest = ray.wait(list(running))
                running = set(rest)
                fault = ray.get(done)
                if fault is not None:
                    raise UserError(*fault)
                progress.update(len(arms) - len(waiting) - len(running), len(arms))
    finally:
        for task in running:
            ray.cancel(task, force=True)


def _drive(config: Config, run: Storage, arm: Arm) -> tuple[str, str] | None:
    """Execute the arm's stages; return message and remedy of a `UserError`, which Ray must not retry."""
    configure_ray_data()
    graph = arm_graph(config, run, arm)
    try:
        graph.execute(own_stages(graph), EventLog(run.child("arms", arm.name)))
    except UserError as error:
        return error.message, error.remedy
    return None

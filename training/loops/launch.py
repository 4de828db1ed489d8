"""Runs a training loop on Ray Train workers: preflight, placement, restarts, live progress, the result."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.capacity_watch import watch_capacity
from cluster.errors import UserError, user_error_in
from cluster.progress import Progress
from cluster.resources import ClusterView, require_capacity
from cluster.storage import Storage
from training.loops.progress_board import ProgressBoard, RemoteProgress, forwarded
from training.loops.training_records import WorkerPlace
from training.loops.worker_placement import Placement, living_nodes, require_resources

log = logging.getLogger("dealrec.training")

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

#: Read by Ray Train in the driver: look at the workers often enough that short runs end promptly, give them
#: time to start on a busy cluster (that they fit is known), and leave out the metrics exporters, which nobody
#: scrapes.
_RAY_TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
#: On a single node nothing is preempted that would leave the driver alive.
_ONE_NODE_ENVIRONMENT = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


@dataclass(frozen=True)
class Launch:
    """One Ray Train run.

    Attributes
    ----------
    name : the stage, as the configuration calls it; messages name `<name>.workers`.
    run_name : the Ray Train run and its folder in the scratch.
    workers : world size.
    environment : variables set in the workers before anything is imported there.
    """

    name: str
    run_name: str
    workers: int
    placement: Placement
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def stamped(
        cls, name: str, stamp: str, workers: int, placement: Placement, environment: Mapping[str, str] | None = None
    ) -> Launch:
        """Name the run by the digest of its inputs, so that a repetition is the same run."""
        return cls(name, f"{name}-{stamp[:16]}", workers, placement, environment or {})

    def folder(self, scratch: Storage) -> Storage:
        """Return the folder of the run's checkpoints."""
        return scratch.child(self.run_name)


class AgreedError(UserError):
    """A user's fault that every rank found alike, so that none waits for another and no restart helps."""


def launch(
    loop: Callable[[Job, Progress], Outcome], job: Job, run: Launch, scratch: Storage, progress: Progress
) -> Outcome:
    """Run `loop(job, progress)` on every rank and return what rank 0 returns.

    Parameters
    ----------
    loop : a function of a module, called on each worker with the process group in place.
    job : its argument; pickled to the workers.
    scratch : Ray Train keeps its own records in `ray/` below it; all nodes must reach it.

    Raises
    ------
    UserError : the cluster cannot hold the workers, at first or for `wait_seconds` since it lost nodes, or a rank
        raised one.
    TrainingFailedError : workers kept failing for another reason.
    """
    require_resources(run.name, run.workers, run.placement)
    filesystem, path = scratch.fs_path("ray")
    board = ray.remote(ProgressBoard).options(num_cpus=0, max_restarts=3).remote()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "loop": loop,
            "job": job,
            "progress": RemoteProgress(board),
            "threads": run.placement.threads,
        },
        torch_config=TorchConfig(backend="nccl" if run.placement.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=run.workers,
            use_gpu=run.placement.use_gpu,
            resources_per_worker=run.placement.bundle(),
        ),
        run_config=RunConfig(
            name=run.run_name,
            storage_path=path,
            storage_filesystem=filesystem if scratch.remote else None,
            failure_config=FailureConfig(
                max_failures=run.placement.max_failures,
                controller_failure_limit=run.placement.max_failures,
            ),
            worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(run.placement.threads), **run.environment}},
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    room = watch_capacity(run.placement.worker(), run.workers, run.placement.wait_seconds)
    environment = _RAY_TRAIN_ENVIRONMENT | (_ONE_NODE_ENVIRONMENT if len(living_nodes()) == 1 else {})
    try:
        with _environment(environment), _interrupts_restored(), forwarded(board, progress), room:
            outcome = trainer.fit().return_value
    except SystemExit as left:
        # Ray Train's own handler of Ctrl-C leaves with exit code 0.
        raise KeyboardInterrupt from left
    except TrainingFailedError as error:
        fault = user_error_in(error)
        if fault is not None:
            raise fault from None
        # Raises if nodes left, and none replaced them while Ray Train waited.
        require_capacity(run.name, run.workers, run.placement.worker(), ClusterView.now(()))
        raise
    finally:
        ray.kill(board)
    if "fault" in outcome:
        raise UserError(*outcome["fault"])
    value: Outcome = outcome["value"]
    return value


def launch_once(
    loop: Callable[[Job, Progress], Outcome], job: Job, run: Launch, scratch: Storage, progress: Progress
) -> Outcome:
    """Launch a run, or return what it returned, a JSON value, if a run of this name has ended before."""
    done = run.folder(scratch).child("done")
    if done.exists("outcome.json"):
        before: Outcome = done.read_json("outcome.json")
        return before
    outcome = launch(loop, job, run, scratch, progress)
    done.write_json("outcome.json", outcome)
    return outcome


def whereabouts() -> WorkerPlace:
    """Return this process and its node."""
    return WorkerPlace(pid=os.getpid(), node_id=ray.get_runtime_context().get_node_id())


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """Run the loop on one rank; a fault that all ranks share is returned, so that Ray Train does not retry it."""
    import torch

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    torch.set_num_threads(config["threads"])
    try:
        return {"value": config["loop"](config["job"], config["progress"])}
    except AgreedError as error:
        return {"fault": (error.message, error.remedy)}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the length of a block, unless the user has set them."""
    added = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


@contextlib.contextmanager
def _interrupts_restored() -> Iterator[None]:
    """Restore the handler of Ctrl-C after a block, since Ray Train replaces it and leaves it replaced."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)

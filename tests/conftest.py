"""What every test may use: one quiet local Ray for the whole session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.small_run import SmallRun

# Machines that run tests are busy; a slow example is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that of several processes none ends long before the last.

    The tests of kills are the longest, and begin with the run that others wait for.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name != "test_killed.py", item.path not in slow))


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """An embedded Ray with four logical CPUs, shared by the tests of a session."""
    from cluster.session import ray_session

    with ray_session("local", cpus=4):
        yield


@pytest.fixture(scope="session")
def small_run(ray_local: None, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> SmallRun:
    """All stages of one run, done once for every test that reads it or goes on from it, in whatever process."""
    from pipeline.cli.main import main
    from tests.small_log import write_config, write_log
    from tests.tiny_llm import make_tiny_llm

    alone = worker_id == "master"
    folder = (tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent) / "small-run"
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            # As many CPUs as the session's Ray has: who goes on from this run has as many threads, so the same bits.
            cluster: dict[str, object] = {"cpus": 4}
            tuning: dict[str, object] = {"epochs": 3, "checkpoint_steps": 2, "workers": 2}
            log, llm = write_log(folder / "log.parquet"), make_tiny_llm(folder / "llm")
            config = write_config(folder, log, llm, finetune=tuning, cluster=cluster)
            assert main(["run", str(config), "--run-dir", str(folder / "run")]) == 0
            # Last: should it have failed in one process, the next goes on with it.
            (folder / "ready").touch()
    return SmallRun(folder)


@pytest.fixture(scope="module")
def ray_head() -> Iterator[str]:
    """The address of the Jobs API of a real head, which ends with the module's tests."""
    from tests.ray_cluster import head_node

    with head_node() as address:
        yield address


@pytest.fixture
def plain_logging() -> Iterator[None]:
    """Our loggers as a process has them that did not start our command line."""
    logger = logging.getLogger("dealrec")
    kept = logger.handlers[:], logger.propagate, logger.level
    root = logging.getLogger()
    of_root = root.handlers[:]
    logger.handlers[:], logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
    root.handlers[:] = []
    yield
    logger.handlers[:], logger.propagate = kept[:2]
    logger.setLevel(kept[2])
    root.handlers[:] = of_root

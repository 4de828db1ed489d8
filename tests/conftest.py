"""What every test may use: one quiet local Ray for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.small_run import SmallRun

# Machines that run tests are busy; a slow example is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in one process when pytest has several: a file's tests, and all that share the complete run.

    The complete run's tests come first, then other files with slow tests, so that no process ends long before the last.
    """

    def group(item: pytest.Item) -> str:
        return "small_run" if "small_run" in getattr(item, "fixturenames", ()) else item.nodeid.split("::")[0]

    slow = {group(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (group(item) != "small_run", group(item) not in slow))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """An embedded Ray with four logical CPUs, shared by the tests of a session."""
    from cluster.session import ray_session

    with ray_session("local", cpus=4):
        yield


@pytest.fixture(scope="session")
def small_run(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """All stages of one run, done once for every test that reads it or goes on from it."""
    from pipeline.cli import main
    from tests.small_log import write_config, write_log
    from tests.tiny_llm import make_tiny_llm

    folder = tmp_path_factory.mktemp("small-run")
    log, llm = write_log(folder / "log.parquet"), make_tiny_llm(folder / "llm")
    # As many CPUs as the session's Ray has: who goes on from this run trains with as many threads, to the last bit.
    cluster = {"cpus": 4}
    config = write_config(folder, log, llm, finetune={"epochs": 3, "checkpoint_steps": 2}, cluster=cluster)
    assert main(["run", str(config), "--run-dir", str(folder / "run")]) == 0
    return SmallRun(folder)


@pytest.fixture(scope="module")
def ray_head() -> Iterator[str]:
    """The address of the Jobs API of a real head, which ends with the module's tests."""
    from tests.ray_cluster import head_node

    with head_node() as address:
        yield address

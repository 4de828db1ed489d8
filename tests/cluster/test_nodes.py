"""Real nodes: the facts of each, and whether they see the same files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.machine_checks import check_nodes_memory, check_versions
from cluster.nodes import NodeFacts, own_versions
from tests.killing import ROOT
from tests.ray_cluster import Cluster, several_nodes
from tests.small_log import write_log
from tests.tiny_llm import make_tiny_llm

HERE = NodeFacts("a", own_versions(), ("c++",), 8 << 30, 0)


def test_a_node_of_another_version_is_named() -> None:
    other = NodeFacts("b", {**own_versions(), "torch": "1.0"}, (), 8 << 30, 0)
    assert not check_versions([HERE], own_versions()).lack
    assert "torch is 1.0 on b" in check_versions([HERE, other], own_versions()).lack


def test_a_node_with_too_little_memory_is_named() -> None:
    poor = NodeFacts("b", own_versions(), (), 1 << 30, 0)
    assert not check_nodes_memory([HERE], 2 << 30).lack
    assert "b have less" in check_nodes_memory([HERE, poor], 2 << 30).lack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nodes")
    (made / "runs").mkdir()
    return made


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start two nodes, the second with a folder `runs` of its own."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process have mounts of its own")
    with several_nodes(cpus=1) as made:
        made.add_node(cpus=2, hidden=folder / "runs")
        yield made


def doctor(folder: Path, address: str, run_dir: str, **sections: Any) -> tuple[int, dict[str, Any]]:
    config = folder / "shop.yaml"
    llm = folder / "llm"
    if not llm.exists():
        make_tiny_llm(llm)
    values = {
        "data": {"interactions": str(write_log(folder / "log.parquet"))},
        "llm": {"model": str(llm), "dtype": "float32"},
        "cluster": {"address": address},
        **sections,
    }
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", "doctor", str(config), "--json", "--run-dir", run_dir]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr}


@pytest.mark.slow
def test_a_run_directory_that_nodes_do_not_share_is_found(cluster: Cluster, folder: Path) -> None:
    code, answer = doctor(folder, cluster.address, str(folder / "runs" / "shop"))
    lacks = [row["lack"] for row in answer["findings"] if row["what"] == "storage"]
    assert code == 2
    assert len(lacks) == 1
    assert f"{folder}/runs/shop is not shared" in lacks[0]

    code, answer = doctor(folder, cluster.address, str(folder / "shared"), finetune={"workers": 3})
    assert code == 0
    assert not list((folder / "shared").glob("**/_probe*"))
    assert {row["stage"]: row["workers"] for row in answer["plan"]}["finetune"] == 3
    assert {row["what"] for row in answer["findings"]} >= {"versions", "storage", "compiler", "memory"}


@pytest.mark.slow
def test_what_the_cluster_can_never_hold_is_refused_and_what_it_may_grow_to_is_not(
    cluster: Cluster, folder: Path
) -> None:
    code, answer = doctor(folder, cluster.address, str(folder / "shared"), finetune={"workers": 7})
    assert code == 2
    assert any("finetune.workers is 7" in row["lack"] for row in answer["findings"])
    groups = {"address": cluster.address, "node_groups": [{"max_nodes": 3, "cpus": 2}]}
    code, answer = doctor(folder, cluster.address, str(folder / "shared"), finetune={"workers": 7}, cluster=groups)
    assert code == 0
    assert {row["stage"]: (row["now"], row["workers"]) for row in answer["plan"]}["finetune"] == (3, 7)


@pytest.mark.slow
def test_files_that_some_nodes_lack_or_have_otherwise_are_found(cluster: Cluster, folder: Path) -> None:
    """The second node has a folder `runs` of its own, and only the driver has what lies there."""
    shared = str(folder / "shared")
    sections: dict[str, Any] = {"llm": {"model": str(make_tiny_llm(folder / "runs" / "llm")), "dtype": "float32"}}
    sections["data"] = {"interactions": str(write_log(folder / "runs" / "log.parquet"))}
    code, answer = doctor(folder, cluster.address, shared, **sections)
    lacks = {row["what"]: row["lack"] for row in answer["findings"] if row["lack"] != "-"}
    assert code == 2
    assert set(lacks) == {"log on nodes", "LLM on nodes"}
    # One of two nodes, by name and the beginning of its id; the other sees what the driver sees.
    node = r"[\w.-]+ \([0-9a-f]{6}\)"
    assert re.fullmatch(rf"llm.model: {folder}/runs/llm is missing on {node}", lacks["LLM on nodes"])
    expected = rf"data.interactions: {folder}/runs/log.parquet is missing on {node}( \(.*\))?"
    assert re.fullmatch(expected, lacks["log on nodes"])

    code, answer = doctor(folder, cluster.address, shared)
    assert code == 0
    found = {row["what"]: row["found"] for row in answer["findings"]}
    assert found["LLM on nodes"] == f"{folder}/llm, the same on 2 nodes"

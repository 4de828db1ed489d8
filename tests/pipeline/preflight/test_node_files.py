"""Files that workers read from their own node are compared with what the driver sees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from pipeline.engine.config_file import parse_config
from pipeline.preflight.checks import Subject
from pipeline.preflight.node_files import _code, own_selectors
from pipeline.stages.same_on_nodes import _model_files, has_cpus, same_llm, same_on_nodes
from tests.tiny_llm import make_tiny_llm


def _other(name: str) -> Mapping[str, Any]:
    """Return one fact that differs between processes and one that is the same in all."""
    return {name: os.getpid(), "same": 1}


def test_files_that_differ_are_named(ray_local: None) -> None:
    with pytest.raises(UserError, match=r"llm.model: /m differs between .* and the driver, in a.safetensors"):
        same_on_nodes("llm.model", "/m", lambda argument: _other("a.safetensors"), None, has_cpus)


def test_a_model_of_all_nodes_is_the_same(ray_local: None, tmp_path: Path) -> None:
    llm = make_tiny_llm(tmp_path / "llm")
    assert same_llm(str(llm), False, True) == f"{llm}, the same on 1 node"
    # Nodes without a GPU run no worker that needs one.
    assert same_llm(str(llm), True, True).endswith("on 0 nodes")
    assert set(_model_files(str(llm))) >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_hub_that_nodes_do_not_reach_is_told(ray_local: None) -> None:
    with pytest.raises(UserError, match=r"llm.model: someone/no-such-model is missing on ") as caught:
        same_llm("someone/no-such-model", False, True)
    assert "hub" in caught.value.remedy


def test_a_gguf_file_is_read_by_the_driver_alone_where_the_run_is_shared(tmp_path: Path) -> None:
    assert "unpacked" in same_llm(str(tmp_path / "m.gguf"), False, unpacked=True)


def test_the_modules_of_a_comparisons_selectors_are_asked_for() -> None:
    config = parse_config({"data": {"interactions": "x"}, "select": {"method": "tests.own_selectors:Newest"}}, "c")
    methods = ("random", "tests.own_selectors:Newest", "tests.own_selectors:ByTarget")
    arms = tuple(config.select.model_copy(update={"method": method}) for method in methods)
    assert own_selectors(Subject(config, ("select",), selections=arms)) == ["tests.own_selectors"]
    # The driver of a run selects by itself.
    assert own_selectors(Subject(config, ("select",))) == []


def test_code_that_a_node_lacks_is_told(ray_local: None) -> None:
    with pytest.raises(UserError, match=r"no module nowhere_to_be_found") as caught:
        same_on_nodes("surrogate.model", "nowhere_to_be_found", _code, "nowhere_to_be_found", has_cpus)
    assert "PYTHONPATH" in caught.value.remedy

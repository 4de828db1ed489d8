"""The states of frozen layers: whom they are shared with, when they go, and a disk without room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.stages.trunk_home import check_room, trunk_cache, trunk_home, trunk_removed
from training.loops.trunk_states import CacheSettings


def config(**finetune: Any) -> Config:
    return Config.model_validate(
        {"data": {"interactions": "log.parquet"}, "llm": {"model": "a/b"}, "finetune": {"layers": 2, **finetune}}
    )


def test_arms_share_states_and_other_layers_or_models_do_not(tmp_path: Path) -> None:
    run = Storage.at(tmp_path)
    base = trunk_cache(config(), run)
    assert trunk_cache(config(lr=1e-4, epochs=3, seed=7), run) == base
    assert Path(base.folder).is_relative_to(tmp_path)
    assert trunk_cache(config(layers=3), run).folder != base.folder
    other = config().model_copy(update={"llm": config().llm.model_copy(update={"dtype": "float32"})})
    assert trunk_cache(other, run).folder != base.folder
    assert trunk_cache(config(cache_gib=2), run).limit == 2 * 2**30
    assert trunk_cache(config(layers="all"), run) == CacheSettings()


def test_states_of_a_run_in_a_store_are_on_the_nodes_own_disk() -> None:
    here, there = (trunk_home(Storage.at(f"s3://bucket/{name}")) for name in ("a", "b"))
    assert here != there
    assert here.is_absolute()


def test_states_go_with_the_run_and_stay_when_it_is_interrupted(tmp_path: Path) -> None:
    run = Storage.at(tmp_path)
    kept = Path(trunk_cache(config(), run).folder, "ab", "states.safetensors")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"x")
    with pytest.raises(KeyboardInterrupt), trunk_removed(config(), run):
        raise KeyboardInterrupt
    assert kept.exists()
    with trunk_removed(config(), run):
        assert kept.exists()
    assert not trunk_home(run).exists()


def test_a_cache_that_no_disk_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finetune\.cache_gib is 100000, but the disk of") as caught:
        check_room(config(cache_gib=1e5), Storage.at(tmp_path / "not" / "yet"))
    assert caught.value.remedy is not None
    assert "finetune.cache_gib" in caught.value.remedy
    assert "GiB free" in check_room(config(), Storage.at(tmp_path))

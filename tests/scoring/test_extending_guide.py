"""The examples of docs/EXTENDING.md are complete: each block is run as the module that its first line names."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from pipeline.engine.config_file import parse_config
from scoring.exceptions import SettingError
from scoring.selection import SelectionParams, select
from tests.scoring.selectors.samples import lowest, parts_of, waiting_times, whole_shard
from tests.scoring.test_surrogate import check_rules

GUIDE = (Path(__file__).parents[2] / "docs" / "EXTENDING.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The examples as modules that can be imported."""
    names = set()
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        named = re.match(r"# (\w+)\.py\n", block)
        assert named is not None
        module = ModuleType(named[1])
        exec(block, module.__dict__)
        monkeypatch.setitem(sys.modules, named[1], module)
        names.add(named[1])
    return names


def test_it_shows_selectors_and_a_surrogate(modules):
    assert modules == {"newest", "recent", "last_item"}


def test_the_newest_are_chosen():
    shard = whole_shard(200)
    chosen = select(lambda: iter(parts_of(shard, np.arange(200), [90])), SelectionParams("newest:Newest", 25))
    picked = np.isin(shard.sample_id, chosen.sample_id)
    assert shard.timestamp is not None
    assert len(chosen.sample_id) == 25
    assert shard.timestamp[picked].min() >= shard.timestamp[shard.ok & ~picked].max()


def test_the_recent_are_drawn_in_proportion():
    shard = whole_shard(200)
    parts = parts_of(shard, np.arange(200)[::-1], [90, 90])
    chosen = select(lambda: iter(parts), SelectionParams("recent:Recent", 25, 3, {"half_life": 0.25}))
    assert shard.timestamp is not None
    times = shard.timestamp[shard.ok]
    weights = 0.5 ** ((times.max() - times) / (times.max() - times.min()) / 0.25)
    assert chosen.sample_id.tolist() == lowest(waiting_times(shard.sample_id[shard.ok], weights, 3), 25)
    assert chosen.report["settings"] == {"half_life": 0.25}
    with pytest.raises(SettingError, match="no setting half_live; the settings are half_life"):
        select(lambda: iter(parts), SelectionParams("recent:Recent", 25, 3, {"half_live": 0.25}))


@pytest.mark.parametrize("scope", ["follow", "all"])
def test_the_surrogate_keeps_its_rules(scope):
    check_rules("last_item:build", scope)


def test_its_configs_are_configs():
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    configs = [parse_config({"data": {"interactions": "x"}, **yaml.safe_load(block)}, "guide") for block in blocks]
    assert {config.select.method for config in configs} >= {"newest:Newest", "recent:Recent"}
    assert any(config.surrogate.model == "last_item:build" for config in configs)

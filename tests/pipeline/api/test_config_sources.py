from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cluster.errors import UserError
from pipeline.api.config_sources import Source, class_name, opened_task, read_source
from pipeline.api.run_result import Run
from pipeline.engine.config import Config
from pipeline.engine.config_file import dump_config, load_config, parse_config
from tests.own_surrogate import MeanOfItems
from tests.small_log import small_log


def config_file(folder: Path, **sections: Mapping[str, Any]) -> Path:
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump({"data": {"interactions": "log.csv"}, **sections}))
    return path


def test_a_file_a_mapping_a_config_and_a_run_say_the_same(tmp_path: Path) -> None:
    path = config_file(tmp_path, select={"size": 24, "lambda": 0.7}, llm={"template": {"name": "x"}})
    config = load_config(str(path))
    whole = yaml.safe_load(path.read_text())
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config))
    sources: list[Source] = [path, str(path), config, whole, Run(config, "/runs/x"), folder]
    for source in sources:
        assert dump_config(read_source(source).config) == dump_config(config)
    assert [read_source(source).run_dir for source in sources] == [
        "runs/shop",
        "runs/shop",
        None,
        None,
        "/runs/x",
        str(folder),
    ]


def test_a_mapping_of_the_log_is_the_section_data_and_sections_replace_keys(tmp_path: Path) -> None:
    read = read_source(
        {"interactions": Path("log.csv"), "split": "leave_one_out"},
        sections={"select": {"size": 0.1}, "samples": {"per_user": "all"}},
    )
    assert read.config.data.interactions == "log.csv"
    assert (read.config.data.split, read.config.select.size, read.config.samples.per_user) == (
        "leave_one_out",
        0.1,
        "all",
    )
    assert read_source({"interactions": "x"}, sections={"select": {"size": np.int64(7)}}).config.select.size == 7
    path = config_file(tmp_path, select={"size": 24, "seed": 3})
    replaced = read_source(path, sections={"select": {"size": 12}}).config.select
    assert (replaced.size, replaced.seed) == (12, 3)


@pytest.mark.parametrize("kind", ["file", "mapping", "config"])
def test_overrides_are_applied_to_every_source(tmp_path: Path, kind: str) -> None:
    path = config_file(tmp_path, select={"size": 24})
    sources: dict[str, Source] = {
        "file": path,
        "mapping": {"interactions": small_log()},
        "config": load_config(str(path)),
    }
    read = read_source(sources[kind], overrides=["select.size=7", "data.min_rating=3"])
    assert (read.config.select.size, read.config.data.min_rating) == (7, 3)
    assert list(read.tables) == (["interactions"] if kind == "mapping" else [])


def test_an_override_may_give_what_the_file_lacks(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("select: {size: 5}\n")
    assert read_source(path, overrides=["data.interactions=x.csv"]).config.data.interactions == "x.csv"


@pytest.mark.parametrize(
    ("source", "sections", "words"),
    [
        ({"interactions": "x", "itmes": "y"}, {}, ["unknown key data.itmes", "data.items"]),
        ({"interactions": "x"}, {"select": {"sizes": 3}}, ["unknown key select.sizes", "select.size"]),
        ({"interactions": "x"}, {"selekt": {"size": 3}}, ["unknown key selekt", "select"]),
        ({"interactions": "x"}, {"select": {"size": -1}}, ["select.size"]),
        ({"items": "x"}, {}, ["key data.interactions is missing"]),
        (3, {}, ["int", "path of a YAML file"]),
        ("nowhere.yaml", {}, ["nowhere.yaml does not exist"]),
    ],
)
def test_a_wrong_source_is_told_by_its_keys(source: Any, sections: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_source(source, sections=sections)
    assert all(word in str(caught.value) for word in words)


def test_tables_are_kept_in_the_run_directory_and_need_one(tmp_path: Path) -> None:
    source = {"interactions": small_log().to_pandas()}
    with pytest.raises(UserError, match="run_dir is missing"), opened_task(source, None):
        pass
    with opened_task(source, tmp_path / "run") as task:
        file = Path(task.config.data.interactions)
        assert file.is_relative_to(tmp_path / "run" / "tables")
        assert file.exists()
    # Nothing came of it.
    assert not file.exists()


def test_a_folder_that_is_only_read_is_not_made(tmp_path: Path) -> None:
    config = parse_config({"data": {"interactions": "x"}}, "test")
    with opened_task(Run(config, str(tmp_path / "run")), None, writes=False) as task:
        assert isinstance(task.config, Config)
    assert not (tmp_path / "run").exists()


def test_a_class_goes_by_the_name_that_workers_import() -> None:
    class Local:
        pass

    assert class_name(MeanOfItems) == "tests.own_surrogate:MeanOfItems"
    with pytest.raises(UserError, match="Put the class into a module"):
        class_name(Local)

"""Long titles in a run: cut and told, left out of the log, or refused, always by the ids of the log."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config_file import load_config
from pipeline.engine.manifest import read_manifest
from pipeline.stages.prompt_titles import LONG_TITLES, shown_titles
from tests.small_log import small_log, write_config, write_log
from tests.tiny_llm import make_tiny_llm
from training.ranking.ranking_metrics import title_groups

NIGHT = "a night in love and the man of the title "
#: Two that are equal as far as they are shown, one without blanks, one of a single word.
LONG = {"i3": NIGHT * 20, "i7": NIGHT * 21, "i4": "千与千寻" * 60, "i11": "y" * 500}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("titles")
    log = small_log()
    titles = [
        LONG.get(item, title) for item, title in zip(log["item_id"].to_pylist(), log["title"].to_pylist(), strict=True)
    ]
    write_log(made / "log.parquet", log.set_column(2, "title", pa.array(titles)))
    make_tiny_llm(made / "llm")
    return made


def config_of(folder: Path, target: Path, **llm: object) -> Path:
    return write_config(target, folder / "log.parquet", folder / "llm", llm=llm)


def test_titles_are_cut_and_counted_by_the_ids_of_the_log(folder: Path, tmp_path: Path) -> None:
    ids = ["i1", *LONG]
    found = shown_titles(load_config(str(config_of(folder, tmp_path)), []), ids, ["Heat", *LONG.values()])
    assert found.facts() == {"long_titles": {"cut": 4, "of": 5, "tokens": 64, "items": list(LONG)}}
    assert [row["item"] for row in found.rows()] == list(LONG)
    assert found.titles[:2] == ["", "Heat"]
    for whole, shown in zip(LONG.values(), found.titles[2:], strict=True):
        assert whole.startswith(shown)
        assert len(shown) > 10
    # What became equal shares a rank, as titles do that were equal before.
    assert title_groups(found.titles[1:]).tolist().count(title_groups(found.titles[1:])[1]) == 2


def test_more_room_cuts_less(folder: Path, tmp_path: Path) -> None:
    config = load_config(str(config_of(folder, tmp_path, max_title_tokens=100)), [])
    narrow = shown_titles(load_config(str(config_of(folder, tmp_path)), []), ["i3"], [LONG["i3"]])
    wide = shown_titles(config, ["i3"], [LONG["i3"]])
    assert wide.room == 100
    assert len(narrow.titles[1]) < len(wide.titles[1]) < len(LONG["i3"])


def test_as_an_error_they_are_named(folder: Path, tmp_path: Path) -> None:
    config = load_config(str(config_of(folder, tmp_path, long_titles="error")), [])
    with pytest.raises(UserError, match=r"4 of 5 titles take more than 64 tokens: items i3, i7, i4, i11; .* item i4"):
        shown_titles(config, ["i1", *LONG], ["Heat", *LONG.values()])
    assert not shown_titles(config, ["i1"], ["Heat"]).cut


@pytest.mark.slow
def test_an_error_comes_before_anything_is_trained(
    ray_local: None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Storage.at(tmp_path / "run")
    config = config_of(folder, tmp_path, long_titles="error")
    assert main(["run", str(config), "--run-dir", run.uri]) == 2
    said = capsys.readouterr().err
    assert "llm.long_titles to cut or drop" in said
    assert "i11" in said
    assert read_manifest(run.child("data")) is not None
    assert not run.exists("surrogate/_begun.json")
    # What does not ask the LLM does not mind.
    assert main(["run", str(config), "--run-dir", run.uri, "--until", "surrogate"]) == 0


def test_their_items_can_be_left_out_of_the_log(ray_local: None, folder: Path, tmp_path: Path) -> None:
    run = Storage.at(tmp_path / "run")
    config = config_of(folder, tmp_path, long_titles="drop")
    assert main(["ingest", str(config), "--run-dir", run.uri]) == 0
    data = run.child("data")
    ids = data.read_table("items.parquet", ["item_id"])["item_id"].to_pylist()
    statistics = data.read_json("statistics.json")
    rows = [item for item in small_log()["item_id"].to_pylist() if item in LONG]
    assert len(ids) == 36
    assert not set(LONG) & set(ids)
    assert statistics["items"]["long_title"] == 4
    assert statistics["dropped"]["long_title"] == len(rows)
    assert statistics["interactions"]["read"] - statistics["interactions"]["kept"] == len(rows)
    # Other titles are too long for less room, so it is another log.
    again = ["ingest", str(config), "--run-dir", run.uri, "--set", "llm.max_title_tokens=90"]
    assert main(again) == 2


@pytest.mark.slow
def test_a_run_says_once_what_was_cut(
    ray_local: None, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Storage.at(tmp_path / "run")
    config = write_config(
        tmp_path,
        folder / "log.parquet",
        folder / "llm",
        select={"method": "random"},
        finetune={"epochs": 1},
        surrogate={"epochs": 1},
        evaluate={"users": 4, "decoding": "constrained"},
    )
    assert main(["run", str(config), "--run-dir", run.uri]) == 0
    said = capsys.readouterr().err
    assert said.count("4 of 40 titles take more than 64 tokens") == 1
    assert f"{run.uri}/{LONG_TITLES}" in said
    assert [row["item"] for row in run.read_json(LONG_TITLES)] == ["i11", "i3", "i4", "i7"]
    for name in ("model", "eval"):
        made = read_manifest(run.child(name))
        assert made is not None
        assert made.facts["long_titles"] == {"cut": 4, "of": 40, "tokens": 64, "items": ["i11", "i3", "i4", "i7"]}
    # The export says what the LLM was told.
    assert main(["export", str(config), "--run-dir", run.uri, "--format", "alpaca"]) == 0
    texts = [json.loads(line) for line in run.read_text("export/alpaca.jsonl").splitlines()]
    whole = {title.strip() for title in LONG.values()}
    assert not any(title in row["input"] + row["output"] for row in texts for title in whole)

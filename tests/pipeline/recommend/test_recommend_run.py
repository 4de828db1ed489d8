"""Whole recommendations from a finished run: the lists, their folder, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import dealrec
from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.manifest import read_manifest
from pipeline.recommend.recommend_run import MARK
from tests.small_log import small_log
from tests.small_run import SmallRun
from training.loops.serving_export import EXAMPLE

COLUMNS = ["user_id", "rank", "item_id", "title", "score"]


@pytest.fixture(scope="module")
def run(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> dealrec.Run:
    """A run of its own, since recommendations are written into it."""
    names = ("data", "surrogate", "scores", "coreset", "model", "eval", "embeddings")
    folder = small_run.begin(tmp_path_factory.mktemp("recommend") / "run", *names)
    (folder / "config.yaml").write_bytes((small_run.folder / "run" / "config.yaml").read_bytes())
    return dealrec.load_run(folder)


def walks() -> dict[str, list[str]]:
    """What each user of the log chose, oldest first."""
    log = small_log().to_pandas().sort_values("timestamp", kind="stable")
    return {str(user): items for user, items in log.groupby("user_id")["item_id"].agg(list).items()}


def lists(table: pa.Table) -> dict[str, list[str]]:
    assert table.column_names == COLUMNS
    found: dict[str, list[str]] = {}
    for row in table.to_pylist():
        found.setdefault(row["user_id"], []).append(row["item_id"])
        assert row["rank"] == len(found[row["user_id"]])
    return found


def evaluated(run: dealrec.Run, label: str) -> tuple[list[str], list[str], list[int]]:
    """Users as evaluate ranked them, the item of each one's only target, and its rank."""
    storage = Storage.at(run.run_dir)
    predictions = storage.read_table("eval/predictions.parquet")
    ids = storage.read_table("data/items.parquet")["item_id"].to_pylist()
    rows = [row for row in predictions.to_pylist() if row["model"].startswith(label)]
    assert all(len(row["targets"]) == 1 for row in rows)
    return [r["user_id"] for r in rows], [ids[r["targets"][0] - 1] for r in rows], [r["ranks"][0] for r in rows]


@pytest.mark.slow
def test_the_prior_corrects_lists_too(run: dealrec.Run) -> None:
    """A weight so large that the least probable titles without a history come first, whatever the history."""
    users = sorted(walks())[:3]
    plain, corrected = (
        lists(
            dealrec.recommend(
                run, users=users, k=3, keep_seen=True, evaluate={"decoding": "likelihood", "prior_correction": weight}
            ).table()
        )
        for weight in (0.0, 1e3)
    )
    assert plain != corrected
    assert len({tuple(items) for items in corrected.values()}) == 1


@pytest.mark.parametrize(
    ("model", "label"), [("llm", "LLM, tuned"), ("untuned", "LLM, untuned"), ("surrogate", "surrogate")]
)
def test_test_users_get_the_ranking_that_evaluate_gave(run: dealrec.Run, model: str, label: str) -> None:
    users, targets, ranks = evaluated(run, label)
    # All but the last, which is the test target.
    histories = {user: walks()[user][:-1] for user in users}
    made = run.recommend(histories, 40, users=users, model=model)
    found = lists(made.table())
    assert list(found) == users
    titles = dict(zip(small_log()["item_id"].to_pylist(), small_log()["title"].to_pylist(), strict=True))
    assert set(made.table()["title"].to_pylist()) <= set(titles.values())
    for user, target, rank in zip(users, targets, ranks, strict=True):
        if rank <= 40 and target not in histories[user]:
            assert found[user].index(target) + 1 == rank, user
        assert not set(found[user]) & set(histories[user])
        assert len(found[user]) == 40 - len(set(histories[user]))
    assert len(set(ranks)) > 3


def test_popularity_is_a_plain_count_and_starts_no_llm(run: dealrec.Run, tmp_path: Path) -> None:
    whole = walks()
    embeddings = Path(run.run_dir, "embeddings")
    before = sorted(embeddings.rglob("*"))
    made = run.recommend(users="all", k=5, model="popularity", out=tmp_path / "lists", format="jsonl")
    found = lists(made.table())
    assert sorted(found) == sorted(whole)
    counts: dict[str, int] = {}
    for walk in whole.values():
        for item in walk[:-2]:
            counts[item] = counts.get(item, 0) + 1
    ids = Storage.at(run.run_dir).read_table("data/items.parquet")["item_id"].to_pylist()
    order = sorted(ids, key=lambda item: (-counts.get(item, 0), ids.index(item)))
    for user, walk in whole.items():
        assert found[user] == [item for item in order if item not in walk][:5]
    assert sorted(embeddings.rglob("*")) == before
    lines = [json.loads(line) for line in (tmp_path / "lists" / "recommendations.jsonl").read_text().splitlines()]
    assert len(lines) == made.rows == 5 * len(whole)
    assert [list(line) for line in lines[:1]] == [COLUMNS]
    assert made.table().equals(pa.Table.from_pylist(lines, schema=made.table().schema))


def test_new_users_come_as_a_table_a_mapping_or_a_file(run: dealrec.Run, tmp_path: Path) -> None:
    walk = walks()["u0"]
    asked: dict[str, Any] = {"model": "surrogate", "k": 4}
    by_mapping = run.recommend({"new": walk}, **asked)
    table = pa.table({"user": ["new"] * len(walk), "item": walk})
    pq.write_table(table, tmp_path / "new.parquet")
    assert list(by_mapping.to_pandas().columns) == COLUMNS
    for given in (table, table.to_pandas(), pl.from_arrow(table), str(tmp_path / "new.parquet")):
        # The same request is found complete.
        assert run.recommend(given, **asked) == by_mapping
    known = run.recommend(users=["u0"], **asked).table()
    assert lists(known)["u0"] == lists(by_mapping.table())["new"]


def test_candidates_and_seen_items(run: dealrec.Run) -> None:
    walk = walks()["u0"]
    others = [item for item in small_log()["item_id"].unique().to_pylist() if item not in walk][:3]
    only = run.recommend(users=["u0"], k=20, model="popularity", candidates=[*others, walk[0]])
    assert sorted(lists(only.table())["u0"]) == sorted(others)
    kept = run.recommend(users=["u0"], k=20, model="popularity", candidates=[*others, walk[0]], keep_seen=True)
    assert sorted(lists(kept.table())["u0"]) == sorted([*others, walk[0]])


@pytest.mark.slow
def test_a_constrained_search_looks_for_candidates_with_a_beam_for_each_place(run: dealrec.Run) -> None:
    """All candidates are found, so their order is that of their likelihood."""
    some = small_log()["item_id"].unique().to_pylist()[3:15]
    searched, scored = (
        dealrec.recommend(
            run,
            users=["u0", "u1"],
            k=12,
            keep_seen=True,
            candidates=some,
            evaluate={"decoding": decoding, "beams": 2, "length_penalty": 0.0},
        ).table()
        for decoding in ("constrained", "likelihood")
    )
    assert lists(searched) == lists(scored)
    assert len(searched) == 24


@pytest.mark.slow
def test_a_stopped_recommendation_goes_on_and_a_complete_one_is_returned(run: dealrec.Run, tmp_path: Path) -> None:
    out = Storage.at(tmp_path / "lists")
    asked: dict[str, Any] = {"users": "all", "k": 3, "model": "llm", "out": out.uri}
    whole = run.recommend(**asked).table()
    record = out.read_json(MARK)
    assert out.list() == [MARK, "recommendations.parquet"]
    assert not out.exists("_chunks")
    written = Path(out.uri, "recommendations.parquet").stat().st_mtime_ns
    assert run.recommend(**asked).table().equals(whole)
    assert Path(out.uri, "recommendations.parquet").stat().st_mtime_ns == written

    # As a kill leaves it: some chunks are done, and the file is not there.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.recommend.recommend_run._write", _fail)
        with pytest.raises(ZeroDivisionError):
            run.recommend(**{**asked, "k": 4})
    assert not out.exists("recommendations.parquet")
    assert out.read_json(MARK)["complete"] is False
    chunks = out.child("_chunks")
    chunks.delete("_shards/part-00001.json")
    kept = chunks.read_json("_shards/part-00000.json")
    made = run.recommend(**{**asked, "k": 4})
    assert made.digest != record["digest"]
    assert kept["attempt"] == 1
    longer = made.table()
    assert longer.filter(pc.less_equal(longer["rank"], 3)).select(COLUMNS[:4]).equals(whole.select(COLUMNS[:4]))


def _fail(*_: object) -> int:
    raise ZeroDivisionError


@pytest.mark.slow
def test_another_request_takes_the_place_of_an_earlier_one_and_its_reader_is_told(
    run: dealrec.Run, tmp_path: Path
) -> None:
    first = run.recommend(users=["u0"], k=2, model="popularity", out=tmp_path / "lists")
    second = run.recommend(users=["u1"], k=2, model="popularity", out=tmp_path / "lists", format="jsonl")
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == [MARK, "recommendations.jsonl"]
    assert list(lists(second.table())) == ["u1"]
    with pytest.raises(dealrec.UserError, match="no longer holds these recommendations"):
        first.table()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--users", "USERS", "--out", "FOREIGN"], "holds files of something else (mine.txt)"),
        (["--users", "NOWHERE.txt"], "--users: NOWHERE.txt does not exist"),
        (["--users", "USERS", "--k", "41"], "--k is 41, and the run's catalogue has 40 items"),
        (["--users", "UNKNOWN"], "no history of 1 of 2 users: zoe"),
        (["--users", "USERS", "--set", "llm.max_items=2"], "llm.max_items was 3, is 2"),
        (["--users", "USERS", "--set", "samples.max_history=4"], "samples.max_history was 8, is 4"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    run: dealrec.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "users.txt").write_text("u0\n")
    (tmp_path / "unknown.txt").write_text("u0\nzoe\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").write_text("mine")
    places = {"USERS": "users.txt", "UNKNOWN": "unknown.txt", "FOREIGN": "foreign"}
    given = [str(tmp_path / places[word]) if word in places else word for word in arguments]
    before = sorted(Path(run.run_dir).rglob("*")), sorted(tmp_path.rglob("*"))
    assert main(["recommend", run.run_dir, *given]) == 2
    assert words in capsys.readouterr().err
    assert (sorted(Path(run.run_dir).rglob("*")), sorted(tmp_path.rglob("*"))) == before


def test_a_run_without_the_model_says_which_it_has(
    small_run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_run.begin(tmp_path / "run", "data", "surrogate")
    (folder / "config.yaml").write_bytes((small_run.folder / "run" / "config.yaml").read_bytes())
    assert main(["recommend", str(folder), "--users", "all"]) == 2
    said = capsys.readouterr().err
    assert "--model llm needs the stage finetune" in said
    assert "the models untuned, surrogate, popularity and similarity" in said
    assert f"dealrec run CONFIG --run-dir {folder} --until finetune" in said
    with pytest.raises(dealrec.UserError, match=r"model='?llm|model llm needs the stage finetune"):
        dealrec.load_run(folder).recommend(users="all")
    with pytest.raises(dealrec.UserError, match="no model 'magic'"):
        dealrec.load_run(folder).recommend(users="all", model="magic")


@pytest.mark.slow
def test_a_run_whose_adapter_is_of_an_earlier_version_recommends(
    run: dealrec.Run, small_run: SmallRun, tmp_path: Path
) -> None:
    folder = small_run.begin(tmp_path / "run", "data", "coreset", "surrogate", "model", "embeddings")
    config = (small_run.folder / "run" / "config.yaml").read_text(encoding="utf-8")
    # The log is not needed any more either.
    (folder / "config.yaml").write_text(config.replace("log.parquet", "gone.parquet"), encoding="utf-8")
    manifest = json.loads((folder / "model" / "_manifest.json").read_text())
    manifest["fingerprint"]["version"] -= 1
    (folder / "model" / "_manifest.json").write_text(json.dumps(manifest))
    for name in ("serving.json", "titles.jsonl"):
        (folder / "model" / name).unlink()
    old = dealrec.load_run(folder).recommend(users=["u3"], k=4)
    assert old.table().equals(run.recommend(users=["u3"], k=4).table())


def test_the_model_folder_serves_alone(run: dealrec.Run, small_run: SmallRun, tmp_path: Path) -> None:
    """Load by transformers and peft, in a process that imports nothing of this project."""
    model = Path(run.run_dir, "model")
    manifest = read_manifest(Storage.at(model))
    assert manifest is not None
    assert {"serving.json", "titles.jsonl", "tokenizer.json"} <= {row["name"] for row in manifest.outputs}
    served = tmp_path / "served"
    served.mkdir()
    for file in model.iterdir():
        (served / file.name).write_bytes(file.read_bytes())
    serving = json.loads((served / "serving.json").read_text())
    serving["decoding"]["beams"] = 20
    (served / "serving.json").write_text(json.dumps(serving))
    card = (served / "README.md").read_text()
    program = card.partition("````python\n")[2].partition("````")[0]
    assert program == EXAMPLE
    program = program.replace("path/to/this/folder", str(served))
    program = program.replace("path/to/the/base/model", str(small_run.folder / "llm"))
    program += "assert not {'dealrec', 'pipeline', 'training', 'cluster', 'scoring'} & set(sys.modules)\n"
    users = [f"u{number}" for number in range(6)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        input="".join(json.dumps(walks()[user]) + "\n" for user in users),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(users)
    made = dealrec.recommend(run, users=users, k=3, keep_seen=True, evaluate={"decoding": "constrained", "beams": 20})
    found = lists(made.table())
    assert [answer[0] for answer in answers] == [found[user][0] for user in users]
    assert np.mean([answer[:3] == found[user] for user, answer in zip(users, answers, strict=True)]) > 0.5

"""One run against another: what is worse, what cannot be told, and what does not compare."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dealrec
from cluster.project_root import PROJECT_ROOT
from pipeline.cli.main import main
from tests.pipeline.studies.compare.evaluated_runs import ITEMS, random_ranks, write_run

USERS = list(range(100, 300))
GOOD = random_ranks(0, USERS, top=20)
BAD = {user: [rank[0] + 8] for user, rank in GOOD.items()}


def gate(new: Path, old: Path, *more: str) -> int:
    return main(["compare", str(new), "--against", str(old), *more])


def test_a_worse_adapter_ends_with_three_and_a_better_one_with_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "good", GOOD)
    write_run(tmp_path / "bad", BAD)
    assert gate(tmp_path / "bad", tmp_path / "good") == 3
    said = capsys.readouterr()
    assert "ndcg@10" in said.out
    assert "is worse than" in said.err
    assert gate(tmp_path / "good", tmp_path / "bad") == 0
    assert "is better than" in capsys.readouterr().err


def test_differences_are_paired_whatever_the_order_of_the_users(tmp_path: Path) -> None:
    write_run(tmp_path / "a", GOOD)
    write_run(tmp_path / "b", dict(reversed(BAD.items())))
    found = dealrec.compare(tmp_path / "a", against=tmp_path / "b")
    row = found.differences["ndcg@10"]
    gains = [
        1 / math.log2(GOOD[user][0] + 1) * (GOOD[user][0] <= 10)
        - 1 / math.log2(BAD[user][0] + 1) * (BAD[user][0] <= 10)
        for user in USERS
    ]
    assert row.difference.mean == pytest.approx(np.mean(gains))
    assert row.ours - row.theirs == pytest.approx(row.difference.mean)
    # Paired: far narrower than the spread of either model alone.
    assert row.difference.high - row.difference.low == pytest.approx(2 * 1.96 * np.std(gains) / 200**0.5, rel=0.2)
    assert (found.users, found.metric, found.worse, found.better) == (200, "ndcg@10", False, True)
    assert found.table().column_names == ["metric", "run", "against", "difference", "low", "high"]
    assert found.table().num_rows == 16
    other = dealrec.compare(dealrec.load_run(tmp_path / "b"), against=dealrec.load_run(tmp_path / "a"))
    assert (other.worse, other.better, other.warnings) == (True, False, ())


def test_equal_runs_and_those_within_chance_pass(tmp_path: Path) -> None:
    write_run(tmp_path / "a", GOOD)
    write_run(tmp_path / "same", GOOD)
    write_run(tmp_path / "chance", random_ranks(1, USERS, top=20))
    for other in ("same", "chance"):
        assert gate(tmp_path / other, tmp_path / "a") == 0
        assert gate(tmp_path / "a", tmp_path / other) == 0


@pytest.mark.parametrize(
    ("mine", "other", "metric", "measured"),
    [
        ((1, 5, 20), (1, 5, 10), "ndcg@5", {1, 5}),
        ((20, 50), (20,), "ndcg@10", {10, 20}),
        ((5,), (50,), "ndcg@10", {10}),
        ((5, 10, 99), None, "ndcg@10", {5, 10}),
    ],
)
def test_the_largest_common_cutoff_up_to_ten_decides(
    tmp_path: Path, mine: tuple[int, ...], other: tuple[int, ...] | None, metric: str, measured: set[int]
) -> None:
    write_run(tmp_path / "a", GOOD, cutoffs=mine)
    write_run(tmp_path / "b", BAD, cutoffs=other)
    found = dealrec.compare(tmp_path / "a", against=tmp_path / "b")
    assert found.metric == metric
    assert {int(name.rpartition("@")[2]) for name in found.differences} == measured


def test_runs_with_other_users_are_compared_on_the_common_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {user: GOOD[user] for user in USERS[:60]}
    write_run(tmp_path / "all", BAD)
    write_run(tmp_path / "some", some)
    found = dealrec.compare(tmp_path / "all", against=tmp_path / "some")
    assert (found.users, found.worse) == (60, True)
    assert found.warnings == ("The runs have 200 and 60 test users; they are compared on the 60 that both have",)
    assert found.differences["recall@20"].theirs == 1.0
    assert gate(tmp_path / "all", tmp_path / "some") == 3
    assert "compared on the 60 that both have" in capsys.readouterr().err


def test_few_users_will_do_where_both_have_the_same(tmp_path: Path) -> None:
    few = {user: GOOD[user] for user in USERS[:8]}
    write_run(tmp_path / "a", few)
    write_run(tmp_path / "b", {user: [40] for user in few})
    assert dealrec.compare(tmp_path / "a", against=tmp_path / "b").users == 8


#: What is written differently, and the words of the message.
UNLIKE: dict[str, tuple[dict[str, Any], str]] = {
    "items": ({"items": [*ITEMS[:-1], "other"]}, "100 items and 100; 2 are in one alone, such as i099"),
    "fewer items": ({"items": ITEMS[:-1]}, "100 items and 99; 1 are in one alone, such as i099"),
    "titles": ({"titles": [f"Film {item}" for item in ITEMS]}, "other titles of the same items, such as i000"),
    "masking": ({"mask_seen": False}, "evaluate.mask_seen is true in"),
    "targets": ({"targets": {120: [77]}}, "user u120 has other targets"),
    "number of targets": ({"targets": {120: [77, 78]}}, "user u120 has other targets"),
    "seen": ({"seen": {130: [95]}}, "user u130 has other seen items"),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_ranks_that_do_not_compare_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    changes, words = UNLIKE[kind]
    write_run(tmp_path / "a", GOOD)
    ranks: Mapping[int, list[int]] = {**GOOD, 120: [3, 4]} if kind == "number of targets" else GOOD
    write_run(tmp_path / "b", ranks, **changes)
    assert gate(tmp_path / "a", tmp_path / "b") == 2
    message = capsys.readouterr().err
    assert words in message
    assert "not compare" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(("start", "words"), [(300, "have no test users in common"), (280, "have 20 test users")])
def test_runs_without_enough_common_users_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], start: int, words: str
) -> None:
    write_run(tmp_path / "a", GOOD)
    write_run(tmp_path / "b", random_ranks(0, range(start, start + 200)))
    assert gate(tmp_path / "a", tmp_path / "b") == 2
    message = capsys.readouterr().err
    assert words in message
    assert "evaluate.seed" in message


def test_directories_without_an_evaluation_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a", GOOD)
    (tmp_path / "empty").mkdir()
    for new, old in (("a", "empty"), ("a", "absent"), ("absent", "a")):
        assert gate(tmp_path / new, tmp_path / old) == 2
        assert "absent" in capsys.readouterr().err or old == "empty"
    assert not (tmp_path / "absent").exists()
    assert gate(tmp_path / "a", tmp_path / "a") == 2
    assert "the run itself" in capsys.readouterr().err
    other = write_run(tmp_path / "b", GOOD)
    other.delete("eval/predictions.parquet")
    assert gate(tmp_path / "a", tmp_path / "b") == 2
    assert "lacks a file of its evaluation" in capsys.readouterr().err
    other.delete("eval/_manifest.json")
    assert gate(tmp_path / "b", tmp_path / "a") == 2
    message = capsys.readouterr().err
    assert f"{other.uri} holds no complete evaluation" in message
    assert run.uri not in message
    with pytest.raises(dealrec.UserError, match=r"dealrec\.run\(config, run_dir="):
        dealrec.compare(tmp_path / "a", against=tmp_path / "b")


@pytest.mark.parametrize(
    "options",
    [
        # The defaults are no exception: they were given.
        ("--selectors", "dealrec,random"),
        ("--seeds", "1"),
        ("--seeds", "3", "--first-seed", "2"),
        ("--target", "proxy"),
        ("--sizes", "0.1"),
        ("--draws", "2"),
        ("--control", "random"),
        ("--proxies", "lexical"),
        ("--arms-at-once", "1"),
        ("--set", "evaluate.seed=1"),
    ],
)
def test_what_only_tuning_knows_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    write_run(tmp_path / "a", GOOD)
    write_run(tmp_path / "b", BAD)
    assert gate(tmp_path / "a", tmp_path / "b", *options) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in options if name.startswith("--"))
    assert "tunes nothing" in message


def test_in_python_as_well(tmp_path: Path) -> None:
    write_run(tmp_path / "a", GOOD)
    write_run(tmp_path / "b", BAD)
    call: Any = dealrec.compare
    for given in (
        {"seeds": 2},
        {"selectors": ["random"]},
        {"overrides": ["evaluate.seed=1"]},
        {"evaluate": {"seed": 1}},
    ):
        with pytest.raises(dealrec.UserError, match="tunes nothing, so " + next(iter(given))):
            call(tmp_path / "a", against=tmp_path / "b", **given)


def test_it_needs_neither_ray_nor_a_model_and_json_has_it_all(tmp_path: Path) -> None:
    write_run(tmp_path / "a", BAD)
    write_run(tmp_path / "b", GOOD)
    before = sorted(path for path in tmp_path.rglob("*"))
    code = (
        "import sys; from pipeline.cli.main import main; "
        f"code = main(['compare', {str(tmp_path / 'a')!r}, '--against', {str(tmp_path / 'b')!r}, '--json']); "
        "assert not {'torch', 'transformers', 'cluster.session'} & set(sys.modules), 'too much was imported'; "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT_ROOT,
        env=dict(os.environ),
    )
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)["gate"]
    assert (result["users"], result["worse"], result["better"], result["metric"]) == (200, True, False, "ndcg@10")
    assert result["differences"]["map@5"]["difference"]["high"] < 0
    assert sorted(path for path in tmp_path.rglob("*")) == before

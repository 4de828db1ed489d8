"""A request is checked against the run before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.recommend.given_histories import mapped_histories
from pipeline.recommend.recommend_request import Asked, RecommendRequest, asked_of
from tests.pipeline.recommend.small_data import CHOSEN, ITEMS, write_data

CONFIG = Config.model_validate({"data": {"interactions": "log.csv"}})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return write_data(Storage.at(tmp_path_factory.mktemp("run")))


def ask(data: Storage, **changed: Any) -> Asked:
    usual: dict[str, Any] = {
        "users": None, "histories": None, "candidates": None, "k": 3, "model": "popularity", "keep_seen": False,
        "format": "parquet",
    }  # fmt: skip
    return asked_of(RecommendRequest(**{**usual, **changed}), CONFIG, data, pa.array(ITEMS))


def rows(asked: Asked) -> dict[str, list[int]]:
    found = asked.histories
    return {user: found.items.row(row).tolist() for row, user in enumerate(found.users)}


def test_users_come_in_the_order_in_which_they_are_named(data: Storage, tmp_path: Path) -> None:
    assert rows(ask(data, users=["dan", "ada"])) == {"dan": [7], "ada": [1, 2, 3, 4, 5]}
    assert list(rows(ask(data, users=["dan", "ada"]))) == ["dan", "ada"]
    (tmp_path / "users.txt").write_text("bob\ncem\n")
    assert list(rows(ask(data, users=str(tmp_path / "users.txt")))) == ["bob", "cem"]
    assert sorted(rows(ask(data, users="all"))) == sorted(CHOSEN)


def test_given_histories_replace_those_of_the_log(data: Storage) -> None:
    given = mapped_histories({"new": ["i1"], "ada": ["i7"]})
    assert rows(ask(data, histories=given)) == {"ada": [7], "new": [1]}
    assert rows(ask(data, histories=given, users=["bob", "ada"])) == {"bob": [3, 1], "ada": [7]}
    everyone = rows(ask(data, histories=given, users="all"))
    assert sorted(everyone) == sorted([*CHOSEN, "new"])
    assert everyone["ada"] == [7]


def test_candidates_are_marked_by_item(data: Storage) -> None:
    assert ask(data, users=["dan"]).allowed is None
    allowed = ask(data, users=["dan"], candidates=["i2", "i7"]).allowed
    assert allowed is not None
    assert allowed.tolist() == [False, True, False, False, False, False, True]


def test_the_content_tells_requests_apart(data: Storage) -> None:
    base = ask(data, users=["dan", "ada"]).content
    assert base == ask(data, users=["dan", "ada"]).content
    others = [
        ask(data, users=["ada", "dan"]),
        ask(data, users=["dan"]),
        ask(data, users=["dan", "ada"], candidates=["i6"]),
        ask(data, users=["dan", "ada"], histories=mapped_histories({"dan": ["i6"]})),
    ]
    assert len({base, *(asked.content for asked in others)}) == 5


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "Neither --users nor --histories"),
        ({"users": "all", "k": 0}, "--k must be at least 1, got 0"),
        ({"users": "all", "k": 8}, "--k is 8, and the run's catalogue has 7 items"),
        ({"users": ["ada", "zoe", "max"]}, "no history of 2 of 3 users: zoe, max"),
        ({"users": ["zoe"], "histories": mapped_histories({"new": ["i1"]})}, "neither the run nor --histories"),
        ({"users": ["ada"], "candidates": ["i1", "x", "y"]}, "2 of 3 items are not in the run's catalogue: x, y"),
        ({"users": ["ada"], "candidates": ["x"]}, "1 of 1 item is not in the run's catalogue: x"),
        ({"users": ["bob", "ada"], "candidates": ["i1", "i2"]}, "1 user has chosen every candidate: ada"),
        ({"histories": mapped_histories({"n": ITEMS})}, "1 user has chosen every item of the catalogue: n"),
        ({"histories": mapped_histories({"n": ["i1", "nope"]})}, "1 item is not in the run's catalogue"),
    ],
)
def test_what_cannot_be_answered_is_refused(data: Storage, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        ask(data, **changed)
    assert words in caught.value.message
    assert caught.value.remedy


def test_who_keeps_seen_items_always_has_a_choice(data: Storage) -> None:
    assert list(CHOSEN["ada"][0])[:2] == [1, 2]
    assert rows(ask(data, users=["ada"], candidates=["i1", "i2"], keep_seen=True))

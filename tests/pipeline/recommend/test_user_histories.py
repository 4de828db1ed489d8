"""Histories of a run's users, against the log that they come from."""

from __future__ import annotations

from pathlib import Path

from cluster.storage import Storage
from pipeline.recommend.user_histories import UserHistories, appended, joined, log_histories
from scoring.ragged import Ragged
from tests.pipeline.recommend.small_data import CHOSEN, write_data


def rows(found: UserHistories) -> dict[str, list[int]]:
    return {user: found.items.row(row).tolist() for row, user in enumerate(found.users)}


def test_a_history_is_all_that_the_log_holds_of_a_user(tmp_path: Path) -> None:
    data = write_data(Storage.at(tmp_path))
    found = log_histories(data)
    assert rows(found) == {user: list(CHOSEN[user][0]) for user in CHOSEN}
    # Longer than samples.max_history, and by shard, then by id.
    assert len(CHOSEN["ada"][0]) > 3
    assert list(found.users) == ["ada", "cem", "eve", "bob", "dan", "fay"]


def test_a_run_of_an_earlier_version_lacks_who_came_late(tmp_path: Path) -> None:
    data = write_data(Storage.at(tmp_path))
    data.delete("_untold")
    assert sorted(rows(log_histories(data))) == sorted(set(CHOSEN) - {"fay"})


def test_only_the_wanted_users_are_kept(tmp_path: Path) -> None:
    data = write_data(Storage.at(tmp_path))
    assert rows(log_histories(data, frozenset({"dan", "cem", "zoe"}))) == {"cem": [2, 2, 6], "dan": [7]}


def test_the_first_part_counts_of_a_user_in_several() -> None:
    first = UserHistories(["b", "a"], Ragged.from_rows([[1, 2], [3]]))
    second = UserHistories(["a", "c"], Ragged.from_rows([[9, 9], [4]]))
    assert rows(joined([first, second])) == {"b": [1, 2], "a": [3], "c": [4]}


def test_rows_are_appended_to_rows() -> None:
    found = appended(Ragged.from_rows([[1], [], [2, 3]]), Ragged.from_rows([[4, 5], [6], []]))
    assert [found.row(row).tolist() for row in range(3)] == [[1, 4, 5], [6], [2, 3]]
    assert len(appended(Ragged.from_rows([]), Ragged.from_rows([]))) == 0

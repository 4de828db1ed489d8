"""One chunk of users, by rankers whose answers a test can count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Storage
from pipeline.engine.sample_tables import list_array
from pipeline.recommend.ranker_sources import PopularitySource
from pipeline.recommend.recommend_worker import (
    RECOMMENDATIONS,
    Listing,
    RecommendWorker,
    best_of_title,
    users_file,
)
from pipeline.stages.ranking_task import Answer, Ranker, Users
from scoring.ragged import Ragged

IDS, TITLES = ["a", "b", "c", "d"], ["A", "same", "C", "same"]
GROUPS = np.array([0, 1, 2, 1])
COUNTS = np.array([5, 9, 7, 1])


@dataclass(frozen=True)
class LastSeenSource:
    """Ranks an item by how lately the model saw it, and lifts the second item above all."""

    label: str = "last seen"

    def build(self) -> Ranker:
        return self

    def answer(self, users: Users) -> Answer:
        scores = np.zeros((len(users), len(IDS)), dtype=np.float32)
        for row in range(len(users)):
            for place, item in enumerate(users.history.row(row), start=1):
                scores[row, item - 1] = place
        scores[:, 1] = 99
        return Answer(scores)


def lists(
    folder: Path,
    source: PopularitySource | LastSeenSource,
    k: int = 4,
    keep_seen: bool = False,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> dict[str, list[tuple[str, float]]]:
    storage = Storage.at(folder)
    history, seen = Ragged.from_rows([[1, 3], [2]]), Ragged.from_rows([[4, 1, 3], [2]])
    table = {"user_id": ["u", "v"], "history": list_array(history), "seen": list_array(seen)}
    storage.write_table(users_file(0), pa.table(table))
    worker = RecommendWorker(storage, source, Listing(IDS, TITLES, GROUPS, allowed, k, keep_seen))
    made, _ = worker(0)
    assert made.schema == RECOMMENDATIONS
    found: dict[str, list[tuple[str, float]]] = {}
    for row in made.to_pylist():
        found.setdefault(row["user_id"], []).append((row["item_id"], row["score"]))
        assert row["rank"] == len(found[row["user_id"]])
        assert row["title"] == TITLES[IDS.index(row["item_id"])]
    return found


def test_what_was_chosen_is_left_out_and_a_title_is_shown_once(tmp_path: Path) -> None:
    popular = PopularitySource(COUNTS)
    assert lists(tmp_path, popular) == {"u": [("b", 9)], "v": [("c", 7), ("a", 5), ("d", 1)]}
    assert lists(tmp_path, popular, k=1) == {"u": [("b", 9)], "v": [("c", 7)]}
    kept = [("b", 9), ("c", 7), ("a", 5)]
    assert lists(tmp_path, popular, keep_seen=True) == {"u": kept, "v": kept}


def test_the_model_sees_the_history_and_not_all_that_was_chosen(tmp_path: Path) -> None:
    found = lists(tmp_path, LastSeenSource(), keep_seen=True)
    assert found["u"] == [("b", 99), ("c", 2), ("a", 1)]


def test_a_candidate_stands_for_its_title(tmp_path: Path) -> None:
    # The model lifted the other item of this title.
    allowed = np.array([True, False, True, True])
    assert lists(tmp_path, LastSeenSource(), allowed=allowed)["v"][0] == ("d", 99)
    assert best_of_title(np.array([[1, np.nan, 3, 4]], np.float32), GROUPS).tolist() == [[1, 4, 3, 4]]

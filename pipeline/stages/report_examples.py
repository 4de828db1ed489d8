"""The test users that a report shows: what they chose, and what each model recommends to them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage import Storage
from pipeline.engine.json_value import JsonValue
from pipeline.engine.sample_tables import ragged_column, read_titles
from pipeline.stages.evaluation_figures import by_model
from pipeline.stages.model_names import SURROGATE, UNTUNED
from training.llm.prompts import clean_title

_EXAMPLES = 10
_HISTORY = 6
_LISTED = 5


def read_examples(evaluation: Storage, data: Storage, focus: str) -> list[dict[str, JsonValue]]:
    """Return the first users of the draw with the lists of the tuned LLM, the untuned LLM and the surrogate.

    The draw is by hash. All models rank for the same users in the same order, that of the evaluation's `_users`.
    """
    shown = [focus, *(label for label in (UNTUNED, SURROGATE) if label != focus)]
    columns = ["model", "sample_id", "user_id", "generated", "targets", "ranks", "items"]
    predictions = evaluation.read_table("predictions.parquet", columns)
    tables = {
        label: table.slice(0, _EXAMPLES)
        for label, table in by_model(predictions.filter(_among(predictions, shown))).items()
    }
    titles, ours = read_titles(data), tables[focus]
    history = ragged_column(_first_users(evaluation), "history")
    targets = ragged_column(ours, "targets")
    lists = {label: (ragged_column(table, "items"), ragged_column(table, "ranks")) for label, table in tables.items()}
    examples: list[dict[str, JsonValue]] = []
    for place, row in enumerate(ours.select(["user_id", "generated"]).to_pylist()):
        wanted = [titles[item] for item in targets.row(place)]
        examples.append(
            {
                "user": row["user_id"],
                "history": [titles[item] for item in history.row(place)[-_HISTORY:]],
                "targets": list(wanted),
                "generated": row["generated"],
                "lists": [
                    {
                        "model": label,
                        "rank": int(ranks.row(place).min()),
                        "titles": _marked([titles[item] for item in items.row(place)[:_LISTED]], wanted),
                    }
                    for label, (items, ranks) in lists.items()
                ],
            }
        )
    return examples


def _among(predictions: pa.Table, labels: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(predictions.column("model"), value_set=pa.array(labels))


def _first_users(evaluation: Storage) -> pa.Table:
    """Return the histories of the first users of the draw: at least as many as are shown, or all if there are fewer."""
    parts: list[pa.Table] = []
    for name in evaluation.list("_users"):
        parts.append(evaluation.read_table(f"_users/{name}", ["sample_id", "history"]))
        if sum(part.num_rows for part in parts) >= _EXAMPLES:
            break
    return pa.concat_tables(parts)


def _marked(titles: Sequence[str], targets: Sequence[str]) -> list[JsonValue]:
    """Mark the titles that are targets. Another item of the same title is a hit as well."""
    wanted = {clean_title(title) for title in targets}
    return [{"title": title, "hit": clean_title(title) in wanted} for title in titles]

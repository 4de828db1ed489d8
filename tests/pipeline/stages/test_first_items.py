from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.stages.first_items import first_items


def test_first_items_are_told_by_number_popularity_and_length() -> None:
    predictions = pa.table({"model": ["a", "a", "a", "b", "b", "b"], "grounded": [4, 4, 1, 1, 2, 3]})
    counts = np.array([0, 3, 3, 9])
    found = first_items(predictions, counts, ["x", "xx", "xxx", "xxxxxx"], lambda titles: [len(t) for t in titles])
    assert found == {
        "catalogue": {"items": 4, "title_tokens": 3.0},
        # Item 4 is above three of four items and as popular as itself; items 2 and 3 are equals.
        "a": {"items": 2, "popularity_percentile": pytest.approx((87.5 * 2 + 12.5) / 3), "title_tokens": 13 / 3},
        "b": {"items": 3, "popularity_percentile": pytest.approx((12.5 + 50 + 50) / 3), "title_tokens": 2.0},
    }

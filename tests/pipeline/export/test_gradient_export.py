"""Per-sample gradients against the stage's own scores, on a run of the first stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cluster.storage import Storage
from pipeline.engine.sample_tables import train_shards
from pipeline.export.gradient_export import gradient_batches
from pipeline.stages.surrogate_source import trained_surrogate
from scoring.exceptions import ScopeError
from tests.small_run import SmallRun


@pytest.fixture
def run(small_run: SmallRun) -> Storage:
    return small_run.run


def test_their_product_with_the_direction_is_the_influence(run: Storage, tmp_path: Path) -> None:
    source = trained_surrogate(run.child("surrogate"), Storage.at(str(tmp_path)), None)
    direction = load_file(f"{run.uri}/scores/influence/_direction.safetensors")["direction"]
    for index in train_shards(run.child("data")):
        scores = run.child("scores", "influence").read_table(f"part-{index:05d}.parquet")
        expected = dict(zip(scores["sample_id"].to_pylist(), scores["influence"].to_pylist(), strict=True))
        found: dict[int, float] = {}
        for batch in gradient_batches(source, run.child("data"), index):
            gradients = np.stack(batch.column("gradient").to_numpy(zero_copy_only=False))
            assert gradients.shape[1] == len(direction)
            found |= dict(zip(batch.column("sample_id").to_pylist(), (gradients @ direction).tolist(), strict=True))
        assert set(found) == set(expected)
        if not expected:
            continue
        scale = float(np.sqrt(np.mean(np.square(list(expected.values())))))
        assert max(abs(found[key] - expected[key]) for key in expected) < 1e-4 * scale


def test_the_scope_is_that_of_the_source(run: Storage, tmp_path: Path) -> None:
    scratch = Storage.at(str(tmp_path))
    last = trained_surrogate(run.child("surrogate"), scratch, ("last_layer",))
    other = trained_surrogate(run.child("surrogate"), scratch, None)
    widths = [
        next(gradient_batches(source, run.child("data"), 1, scope)).schema.field("gradient").type.list_size
        for source, scope in ((last, None), (other, ("last_layer",)), (other, None))
    ]
    assert widths[0] == widths[1] != widths[2]


def test_an_unknown_scope_is_named(run: Storage, tmp_path: Path) -> None:
    source = trained_surrogate(run.child("surrogate"), Storage.at(str(tmp_path)), None)
    with pytest.raises(ScopeError, match="no_such"):
        next(gradient_batches(source, run.child("data"), 0, ("no_such",)))

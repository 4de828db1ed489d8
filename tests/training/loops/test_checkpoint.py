from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cluster.storage import Storage
from training.loops.checkpoint import latest_checkpoint, save_checkpoint, save_tensors


def test_the_newest_is_found_and_two_are_kept(tmp_path: Path) -> None:
    folder = Storage.at(tmp_path)
    for step in (1, 2, 3):
        save_checkpoint(folder, step, {"a": torch.full((2,), float(step))}, {"stamp": "s", "note": step})
    found = latest_checkpoint(folder, "s")
    assert found is not None
    assert found.state["step"] == found.state["note"] == 3
    assert torch.equal(found.tensors["a"], torch.tensor([3.0, 3.0]))
    assert len(folder.list(suffix=".json")) == len(folder.list(suffix=".safetensors")) == 2


def test_one_without_its_json_or_with_other_bytes_does_not_count(tmp_path: Path) -> None:
    folder = Storage.at(tmp_path)
    for step in (1, 2):
        save_checkpoint(folder, step, {"a": torch.full((2,), float(step))}, {"stamp": "s"})
    save_tensors(folder, "step-000000003.safetensors", {"a": torch.ones(2)})
    save_tensors(folder, "step-000000002.safetensors", {"a": torch.zeros(2)})
    found = latest_checkpoint(folder, "s")
    assert found is not None
    assert found.state["step"] == 1


def test_another_run_s_checkpoints_are_left_alone(tmp_path: Path) -> None:
    folder = Storage.at(tmp_path)
    save_checkpoint(folder, 5, {"a": torch.ones(1)}, {"stamp": "other"})
    assert latest_checkpoint(folder, "s") is None
    assert latest_checkpoint(folder.child("nowhere"), "s") is None


def test_tied_tensors_are_saved_under_each_name(tmp_path: Path) -> None:
    folder, tensor = Storage.at(tmp_path), torch.arange(6.0)
    save_checkpoint(folder, 1, {"whole": tensor, "same": tensor, "part": tensor[2:4]}, {"stamp": "s"})
    found = latest_checkpoint(folder, "s")
    assert found is not None
    assert {name: value.tolist() for name, value in found.tensors.items()} == {
        "whole": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "same": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "part": [2.0, 3.0],
    }


def test_an_empty_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hollow"):
        save_tensors(Storage.at(tmp_path), "x.safetensors", {"hollow": torch.empty(0)})

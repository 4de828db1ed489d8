from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from training.llm.memory_needs import llm_worker_memory, loads_to_look, memory_for_workers, weight_bytes


def test_weights_in_the_hubs_cache_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weight_bytes("somebody/model") == 0
    repository, revision = tmp_path / "models--somebody--model", "0" * 40
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots" / revision / "model.safetensors").write_bytes(bytes(4096))
    (repository / "snapshots" / revision / "config.json").write_text("{}")
    assert weight_bytes("somebody/model") == 4096


def test_a_folder_counts_its_weights_and_a_file_itself(tmp_path: Path) -> None:
    for name, size in (("a.safetensors", 100), ("b.bin", 20), ("tokenizer.json", 3)):
        (tmp_path / name).write_bytes(bytes(size))
    assert weight_bytes(str(tmp_path)) == 120
    assert weight_bytes(str(tmp_path / "a.safetensors")) == 100
    assert llm_worker_memory(str(tmp_path)) - llm_worker_memory(str(tmp_path / "none")) == 150


@pytest.mark.parametrize(("available", "loads"), [(1 << 30, True), (100, False)])
def test_a_model_is_loaded_to_look_where_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, loads: bool
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))
    assert not loads_to_look(str(tmp_path))
    (tmp_path / "a.safetensors").write_bytes(bytes(100))
    assert loads_to_look(str(tmp_path)) is loads
    assert memory_for_workers() < available

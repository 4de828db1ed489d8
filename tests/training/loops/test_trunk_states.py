"""The cache of states: whole files, within a limit, and the same states with it or without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny_llm import make_model
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate
from training.llm.trunk import Trunk
from training.loops.trunk_states import CacheSettings, StateCache, TrunkStates

PROMPTS = [EncodedPrompt([5, 9, 200, 31], 2), EncodedPrompt([8, 3, 150, 61, 7, 99], 4), EncodedPrompt([1, 2, 3], 1)]


def states_of(cache: StateCache) -> TrunkStates:
    return TrunkStates(Trunk(make_model(layers=3), 1), cache, torch.device("cpu"))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_states_are_computed_once_and_are_the_same_again(tmp_path: Path) -> None:
    batch = collate(PROMPTS, 0)
    first = states_of(StateCache(CacheSettings(str(tmp_path)), 1))
    wanted = first.of(batch)
    assert (first.computed, len(files(tmp_path))) == (3, 3)
    assert wanted[0, :2].abs().max() == 0
    again = states_of(StateCache(CacheSettings(str(tmp_path)), 1))
    torch.testing.assert_close(again.of(collate(PROMPTS, 0, [2, 0, 1])), wanted[[2, 0, 1]], rtol=0, atol=0)
    assert again.computed == 0
    without = states_of(StateCache(CacheSettings(), 1))
    torch.testing.assert_close(without.of(batch), wanted, rtol=0, atol=0)
    torch.testing.assert_close(without.of(batch), wanted, rtol=0, atol=0)
    assert without.computed == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sequence_has_the_same_states_in_any_company(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 31, 16, 17, 90, 33, 48, 7, 31, 30, 29, 200, 18, 3]
    prompts = [EncodedPrompt(torch.randint(1, 300, (n,), generator=generator).tolist(), 1) for n in lengths]
    trunk = Trunk(make_model(layers=3).to(dtype), 1)
    together = TrunkStates(trunk, StateCache(CacheSettings(), 1), torch.device("cpu")).of(collate(prompts, 0))
    assert together.dtype == dtype
    for place, prompt in enumerate(prompts):
        alone = TrunkStates(trunk, StateCache(CacheSettings(), 1), torch.device("cpu")).of(collate([prompt], 0))
        assert torch.equal(alone[0], together[place, -len(prompt.input_ids) :])
        ids = torch.tensor([prompt.input_ids])
        plain = trunk.states(ids, torch.tensor([len(prompt.input_ids)]))[0]
        torch.testing.assert_close(alone[0], plain, rtol=0.1 if dtype == torch.bfloat16 else 1e-5, atol=0.05)


def test_states_are_computed_ahead_where_there_is_room(tmp_path: Path) -> None:
    sequences = [torch.tensor(prompt.input_ids) for prompt in PROMPTS]
    first = states_of(StateCache(CacheSettings(str(tmp_path)), 1))
    first.fill(sequences)
    assert (first.computed, first.tokens, len(files(tmp_path))) == (3, 13, 3)
    first.fill(sequences)
    wanted = states_of(StateCache(CacheSettings(), 1)).of(collate(PROMPTS, 0))
    assert torch.equal(first.of(collate(PROMPTS, 0)), wanted)
    assert first.computed == 3
    for nowhere in (CacheSettings(), CacheSettings(str(tmp_path / "none"), 0)):
        without = states_of(StateCache(nowhere, 1))
        without.fill(sequences)
        assert without.computed == 0
        assert torch.equal(without.of(collate(PROMPTS, 0)), wanted)


@pytest.mark.parametrize("ranks", [1, 2])
def test_files_stay_within_the_limit(tmp_path: Path, ranks: int) -> None:
    cache = StateCache(CacheSettings(str(tmp_path), 1000 * ranks), ranks)
    tensor = torch.ones(100)
    for key in ("aa", "ab", "ac"):
        cache.put(key, tensor)
    assert [file.stem for file in files(tmp_path)] == ["aa", "ab"]
    found = cache.get("ab")
    assert found is not None
    assert torch.equal(found, tensor)
    assert cache.get("ac") is None
    # What is there counts when the training begins again.
    later = StateCache(CacheSettings(str(tmp_path), 1000), 1)
    later.put("ad", tensor)
    assert later.get("ad") is None


def test_a_broken_file_is_computed_again(tmp_path: Path) -> None:
    batch = collate(PROMPTS[:1], 0)
    wanted = states_of(StateCache(CacheSettings(str(tmp_path)), 1)).of(batch)
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-3])
    again = states_of(StateCache(CacheSettings(str(tmp_path)), 1))
    torch.testing.assert_close(again.of(batch), wanted, rtol=0, atol=0)
    assert again.computed == 1


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = StateCache(CacheSettings(str(tmp_path / "file" / "states")), 1)
    cache.put("aa", torch.ones(3))
    assert cache.get("aa") is None
    assert "are not kept" in caplog.text

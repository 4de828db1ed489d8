from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from scoring.ragged import Ragged
from tests.tiny_llm import make_model, make_tokenizer
from training.llm.llm_spec import LoraSpec
from training.llm.lora import attach_lora
from training.llm.prompts import PromptEncoder, load_template
from training.llm.token_batches import collate
from training.ranking.beam_search import BeamSettings
from training.ranking.generate import FreeSteering, TitleGenerator
from training.ranking.title_trie import OUTSIDE, TitleTrie

TITLES = ["", "Toy Story (1995)", "Heat", "Fargo", "Heat", "Heatwave", "A night in love", "8½"]
TOKENIZER = make_tokenizer()
ENCODER = PromptEncoder(TOKENIZER, load_template("movies"), TITLES, 10, 512)
PROMPTS = [ENCODER.encode(history) for history in ([1], [2, 3, 6], [5, 1, 7, 2, 6], [3])]
BATCH = collate(PROMPTS, TOKENIZER.pad_token_id)
RESPONSES = [ENCODER.response_ids(item) for item in range(1, len(TITLES))]


def search(model=None, beams=3, trie=None, new_tokens=12, share=False):
    settings = BeamSettings(beams, new_tokens, length_penalty=1.0 if trie is None else 0.0)
    return TitleGenerator(model or make_model(), TOKENIZER, settings, trie, share)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_constrained_scores_are_the_catalogues_log_probabilities(architecture, share):
    model = make_model(architecture)
    got = search(model, beams=6, trie=TitleTrie.build(RESPONSES), new_tokens=40, share=share).run(BATCH)
    for place, prompt in enumerate(PROMPTS):
        exact = {}
        for item, response in enumerate(RESPONSES, start=1):
            ids = torch.tensor([prompt.input_ids + response])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, len(prompt.input_ids) - 1 : -1]
            picked = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])
            exact[item] = float(picked.sum())
        del exact[4]  # the same title as item 2
        ranking = sorted(exact, key=lambda item: -exact[item])
        # With as many beams as titles, nothing is pruned.
        assert got.items[place].tolist() == ranking
        np.testing.assert_allclose(got.scores[place], [exact[item] for item in ranking], rtol=1e-4)
        assert got.texts[place] == [TITLES[item] for item in ranking]


def test_fewer_titles_than_beams_leave_places_empty():
    got = search(beams=5, trie=TitleTrie.build(RESPONSES[:2]), new_tokens=40).run(BATCH)
    assert all(sorted(texts) == ["Heat", "Toy Story (1995)"] for texts in got.texts)
    assert (got.items[:, 2:] == OUTSIDE).all()
    assert np.isneginf(got.scores[:, 2:]).all()
    assert np.isfinite(got.scores[:, :2]).all()


@pytest.mark.parametrize("share", [False, True])
def test_barred_titles_use_up_no_beams(share):
    trie = TitleTrie.build(RESPONSES)
    everything = search(beams=6, trie=trie, new_tokens=40).run(BATCH)
    # By the number of a prompt: its two best titles, none, all but one, and all. The rows come in another order.
    leaf = {int(item): node for node, item in enumerate(trie.items.tolist()) if item != OUTSIDE}
    ranked = everything.items.tolist()
    shut = [ranked[0][:2], [], ranked[2][:5], ranked[3]]
    barred = Ragged.from_rows([[leaf[item] for item in row] for row in shut])
    batch = collate(PROMPTS, TOKENIZER.pad_token_id, [3, 0, 2, 1])
    got = search(beams=2, trie=trie, new_tokens=40, share=share).run(batch, barred)
    for place, row in enumerate([3, 0, 2, 1]):
        left = [item for item in sorted(leaf) if item not in shut[row]]
        if not left:
            assert got.texts[place] == []
            continue
        # The search is the one over a catalogue without the barred titles.
        catalogue = TitleTrie.build([RESPONSES[item - 1] for item in left], left)
        alone = search(beams=2, trie=catalogue, new_tokens=40).run(collate(PROMPTS, TOKENIZER.pad_token_id, [row]))
        assert got.items[place].tolist() == alone.items[0].tolist()
        assert got.texts[place] == alone.texts[0]
        np.testing.assert_allclose(got.scores[place], alone.scores[0], rtol=1e-4)


def test_only_items_of_the_catalogue_come_out():
    many = [ENCODER.response_ids(item) for item in (1, 2, 3, 5, 6, 7)]
    got = search(beams=2, trie=TitleTrie.build(many, [1, 2, 3, 5, 6, 7]), new_tokens=40).run(BATCH)
    for texts, items in zip(got.texts, got.items, strict=True):
        assert texts == [TITLES[item] for item in items if item != OUTSIDE]


def test_rows_do_not_depend_on_their_batch_and_come_best_first():
    together = search().run(BATCH)
    assert (np.diff(together.scores, axis=1) <= 0).all()
    for row in range(len(PROMPTS)):
        alone = search().run(collate(PROMPTS, TOKENIZER.pad_token_id, [row]))
        assert alone.rows.tolist() == [row]
        assert alone.texts[0] == together.texts[row]


def test_sampling_defaults_of_the_model_are_ignored():
    model = make_model()
    expected = search(model).run(BATCH)
    model.generation_config.do_sample = True
    model.generation_config.temperature = 9.0
    model.generation_config.num_beams = 7
    model.generation_config.repetition_penalty = 5.0
    assert search(model).run(BATCH).texts == expected.texts


def test_out_of_memory_halves_the_batch_and_keeps_the_beams(monkeypatch):
    expected = search().run(BATCH)
    calls = []
    inner = TitleGenerator._run

    def short_of_memory(self, batch, barred=None):
        calls.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, batch)

    monkeypatch.setattr(TitleGenerator, "_run", short_of_memory)
    got = search().run(BATCH)
    assert calls == [4, 2, 1, 1, 2, 1, 1]
    assert got.texts == expected.texts
    assert got.scores.shape == expected.scores.shape
    assert got.rows.tolist() == [0, 1, 2, 3]


def test_an_adapted_model_generates():
    model = attach_lora(make_model(), LoraSpec(r=2))
    assert search(model).run(BATCH).texts == search().run(BATCH).texts


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ('"Heat"', True),
        ('"Heat', False),
        ("\n\n", False),
        ("\n\nHeat\n", True),
        ("Heat", False),
        ('"\n', True),
        ("Heat</s>", True),
    ],
)
def test_a_sequence_ends_with_its_title(text, ends):
    steering = FreeSteering(TOKENIZER, [TOKENIZER.eos_token_id], 400, torch.device("cpu"))
    states, ended = steering.start(1), torch.zeros(1, dtype=torch.bool)
    for token in TOKENIZER(text).input_ids:
        assert not ended
        states, ended = steering.advance(states, torch.tensor([token]))
    assert bool(ended) is ends


def test_an_oracle_gets_every_target():
    # A model that has memorised one answer: its logits are the trie of a single title.
    for item in (1, 3, 6):
        trie = TitleTrie.build([RESPONSES[item - 1]], [item])
        got = search(beams=2, trie=trie, new_tokens=40).run(BATCH)
        assert list(itertools.chain(*got.texts)) == [TITLES[item]] * len(PROMPTS)

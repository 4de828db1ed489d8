from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoring.ragged import Ragged
from tests.tiny_llm import make_model, make_tokenizer
from training.llm.llm_spec import LoraSpec
from training.llm.lora import attach_lora
from training.ranking.grounding import TextEmbedder, TitleSpace, title_scores
from training.ranking.ranking_metrics import rank_targets, title_groups, user_metrics

TITLES = ["Toy Story (1995)", "Heat", "Fargo", "Heat", "Heatwave", "A night in love", "8½"]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_embedding_is_the_last_tokens_final_state(architecture):
    model, tokenizer = make_model(architecture), make_tokenizer(bos=True)
    got = TextEmbedder(model, tokenizer, max_tokens=40).embed(TITLES)
    for title, embedding in zip(TITLES, got, strict=True):
        ids = torch.tensor([tokenizer(title).input_ids])
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        np.testing.assert_allclose(embedding, states[0, -1].numpy(), atol=1e-5)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[1], got[3])


def test_the_adapter_is_off_while_embedding():
    model, tokenizer = make_model(), make_tokenizer()
    expected = TextEmbedder(model, tokenizer).embed(TITLES)
    adapted = attach_lora(make_model(), LoraSpec(r=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    np.testing.assert_array_equal(TextEmbedder(adapted, tokenizer).embed(TITLES), expected)


def test_a_generated_title_gets_the_titles_own_embedding():
    embedder = TextEmbedder(make_model(), make_tokenizer())
    titles = embedder.embed(TITLES)
    got = embedder.embed_generated(["Fargo ", "nothing known", "", "Heat"], TITLES, titles)
    np.testing.assert_array_equal(got[[0, 3]], titles[[2, 1]])
    assert np.isfinite(got).all()


@given(st.integers(0, 2**31))
def test_distances_are_euclidean_in_spite_of_a_large_common_part(seed):
    generator = np.random.default_rng(seed)
    common = 300 * generator.normal(size=8)
    a = (common + generator.normal(size=(3, 8))).astype(np.float32)
    b = (common + generator.normal(size=(20, 8))).astype(np.float32)
    exact = np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(-1))
    np.testing.assert_allclose(TitleSpace(b).distances(a), exact, rtol=1e-3, atol=1e-2)


def test_an_oracle_ranks_every_unseen_target_first():
    titles = TextEmbedder(make_model(), make_tokenizer()).embed(TITLES)
    targets = Ragged.from_rows([[1], [4], [6], [7]])
    seen = Ragged.from_rows([[2], [2], [1, 5], [7]])
    generated = titles[[0, 3, 5, 6]]
    ranks = rank_targets(title_scores(generated, TitleSpace(titles)), targets, seen, title_groups(TITLES))
    assert ranks.values.tolist() == [1, 1, 1, len(TITLES) + 1]
    assert user_metrics(ranks)["ndcg@5"].tolist() == [1, 1, 1, 0]


def test_beams_of_constrained_decoding_go_first():
    generator = np.random.default_rng(0)
    titles = generator.normal(size=(9, 4)).astype(np.float32)
    near = np.argsort(TitleSpace(titles).distances(titles[:1])[0]) + 1
    rest = [item for item in near.tolist() if item not in (8, 3)]
    targets = Ragged.from_rows([[8, 3, *rest]])
    ranks = rank_targets(title_scores(titles[:1], TitleSpace(titles), Ragged.from_rows([[8, 3]])), targets)
    assert ranks.values.tolist() == list(range(1, 10))


@given(st.integers(0, 2**31))
def test_similarity_is_the_mean_cosine_to_the_history_about_the_catalogues_mean(seed):
    generator = np.random.default_rng(seed)
    titles = (300 + generator.normal(size=(9, 5))).astype(np.float32)
    histories = [[1, 4, 4], [9], []]
    got = TitleSpace(titles).similarities(Ragged.from_rows(histories))
    centred = titles.astype(float) - titles.astype(float).mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    cosines = centred @ centred.T / np.outer(norms, norms)
    for row, items in enumerate(histories):
        expected = cosines[[item - 1 for item in items]].mean(axis=0) if items else np.zeros(9)
        np.testing.assert_allclose(got[row], expected, atol=1e-3)
    assert got[1].argmax() == 8

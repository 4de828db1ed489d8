from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_llm import make_model
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import IGNORED, collate, token_batches

PAD = 0
shapes = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9)), min_size=1, max_size=20)


def prompts(sizes):
    return [EncodedPrompt([3 + (row + place) % 90 for place in range(a + b)], a) for row, (a, b) in enumerate(sizes)]


@given(shapes, st.integers(1, 200), st.integers(1, 8), st.none() | st.integers(0, 9))
def test_every_prompt_comes_once_within_the_budget(sizes, max_tokens, max_rows, seed):
    encoded = prompts(sizes)
    rows = []
    for batch in token_batches(encoded, PAD, max_tokens, max_rows, seed):
        count, width = batch.input_ids.shape
        assert count <= max_rows
        assert count * width <= max_tokens or count == 1
        rows += batch.rows.tolist()
        for place, row in enumerate(batch.rows):
            real = batch.attention_mask[place].bool()
            assert batch.input_ids[place][real].tolist() == encoded[row].input_ids
            assert batch.position_ids[place][real].tolist() == list(range(int(real.sum())))
            assert batch.input_ids[place][~real].eq(PAD).all()
            response = encoded[row].input_ids[encoded[row].response_start :]
            assert batch.labels[place][batch.labels[place] != IGNORED].tolist() == response
            assert int(batch.response_tokens[place]) == len(response)
    assert sorted(rows) == list(range(len(encoded)))


def test_responses_end_in_the_last_column_and_the_kept_logits_predict_them():
    batch = collate(prompts([(4, 2), (9, 5), (1, 1)]), PAD)
    keep = batch.logits_to_keep
    assert keep == 6
    assert (batch.labels[:, :-5] == IGNORED).all()
    model = make_model()
    short = model(**batch.model_inputs(), logits_to_keep=keep).logits[:, :-1]
    whole = model(**batch.model_inputs()).logits[:, -keep:-1]
    assert torch.allclose(short, whole, atol=1e-6)


def test_padding_changes_no_logits():
    encoded = prompts([(4, 2), (20, 3)])
    model = make_model("gpt2")
    together = model(**collate(encoded, PAD).model_inputs()).logits[0, -6:]
    alone = model(**collate(encoded, PAD, [0]).model_inputs()).logits[0]
    assert torch.allclose(together, alone, atol=1e-5)


def test_slices_keep_columns_and_row_numbers():
    batch = collate(prompts([(4, 2), (9, 5), (1, 1)]), PAD, [2, 0, 1])
    part = batch.slice(1, 3)
    assert part.rows.tolist() == [0, 1]
    assert len(part) == 2
    assert torch.equal(part.input_ids, batch.input_ids[1:3])
    assert part.to("cpu").labels.shape == (2, 14)

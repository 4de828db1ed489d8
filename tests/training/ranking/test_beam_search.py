from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from tests.tiny_llm import VOCABULARY, make_model
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate
from training.ranking.beam_search import BeamSettings, beam_search

MODELS = {name: make_model(name) for name in ("llama", "qwen2", "gpt2")}


class EndTokens:
    """Ends at any of many tokens, so that random models end early."""

    def __init__(self, ends):
        self.ends = torch.tensor(ends)

    def start(self, count):
        return torch.zeros(count, dtype=torch.long)

    def allowed(self, states):
        return None

    def advance(self, states, tokens):
        return states, torch.isin(tokens, self.ends)


def prompts(lengths, seed=0, common=0):
    """Return random prompts behind `common` tokens that are the same in all."""
    generator = np.random.default_rng(seed)
    first = generator.integers(3, VOCABULARY, common).tolist()
    return [EncodedPrompt([*first, *generator.integers(3, VOCABULARY, n).tolist()], common + n) for n in lengths]


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize(("share", "common"), [(False, 0), (True, 0), (True, 5)])
def test_results_equal_those_of_transformers(architecture, penalty, beams, share, common):
    model = MODELS[architecture]
    batch = collate(prompts([3, 9, 14, 6], common=common), 0)
    for end in (17, 230):
        found = beam_search(model, batch, EndTokens([end]), BeamSettings(beams, 9, penalty), share)
        reference = model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=GenerationConfig(
                num_beams=beams,
                num_return_sequences=beams,
                max_new_tokens=9,
                length_penalty=penalty,
                do_sample=False,
                early_stopping=False,
                eos_token_id=end,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_scores=True,
            ),
        )
        generated = reference.sequences[:, batch.input_ids.shape[1] :].view(4, beams, -1)
        for row in range(4):
            for beam in range(beams):
                length = int(found.lengths[row, beam])
                assert found.tokens[row, beam, :length].tolist() == generated[row, beam, :length].tolist()
        if beams > 1:
            scores = reference.sequences_scores.view(4, beams)
            torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.integers(1, 12), min_size=2, max_size=5),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=90),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 15),
)
def test_a_prompt_does_not_depend_on_its_batch(architecture, lengths, ends, beams, share, common):
    encoded = prompts(lengths, common=common)
    steering, options = EndTokens(ends), BeamSettings(beams, 5)
    together = beam_search(MODELS[architecture], collate(encoded, 0), steering, options, share)
    for row in range(len(encoded)):
        alone = beam_search(MODELS[architecture], collate(encoded, 0, [row]), steering, options, share)
        torch.testing.assert_close(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-5)
        assert torch.equal(alone.lengths[0], together.lengths[row])
        assert (together.scores[row].diff() <= 0).all()


def test_what_all_prompts_begin_with_is_read_once():
    model, cells = make_model("llama"), []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: cells.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    same = EncodedPrompt([5, 6, 7, 8], 4)
    for encoded, expected in [
        (prompts([2, 6, 4], common=20), [20, 3 * 6]),
        # The last token of the shortest is left, whose logits are asked for.
        ([same, EncodedPrompt([5, 6, 7, 8, 9, 10], 6)], [3, 2 * 3]),
        ([same, same], [3, 2]),
        (prompts([6], common=20), [26]),
    ]:
        cells.clear()
        beam_search(model, collate(encoded, 0), EndTokens([0]), BeamSettings(1, 1), share=True)
        assert cells == expected


def test_scores_are_sums_of_log_probabilities():
    model, encoded = MODELS["llama"], prompts([4, 7])
    found = beam_search(model, collate(encoded, 0), EndTokens(range(60, 90)), BeamSettings(3, 6, 1.0))
    for row, prompt in enumerate(encoded):
        for beam in range(3):
            tokens = found.tokens[row, beam, : found.lengths[row, beam]]
            ids = torch.cat([torch.tensor(prompt.input_ids), tokens])[None]
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, len(prompt.input_ids) - 1 : -1]
            total = logits.log_softmax(-1).gather(1, tokens[:, None]).sum()
            assert float(found.scores[row, beam]) == pytest.approx(float(total) / len(tokens), rel=1e-4)


@pytest.mark.parametrize("share", [False, True])
def test_finished_prompts_leave_the_batch(share):
    model, sizes = make_model("llama"), []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    ends = EndTokens(range(0, VOCABULARY, 2))
    found = beam_search(model, collate(prompts([5, 8, 3]), 0), ends, BeamSettings(2, 9), share)
    assert sizes[:1] == [3]
    assert all(later <= 6 for later in sizes)
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert torch.isfinite(found.scores).all()

"""Log-probabilities of a catalogue's titles, against a loop that scores one title after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import small_model
from tests.tiny_llm import make_tokenizer
from training.llm.llm_spec import LoraSpec
from training.llm.lora import attach_lora
from training.llm.prompts import PromptEncoder, load_template
from training.ranking import title_likelihood
from training.ranking.sharing import shares_prompts
from training.ranking.title_likelihood import TitleLikelihood
from training.ranking.title_packs import PROMPT, pack_titles

TITLES = ["", "Toy Story (1995)", "Heat", "Fargo", "Heat", "Heatwave", "A night in love", "8½", "Toy Story 2", "Hea"]
TOKENIZER = make_tokenizer()
ENCODER = PromptEncoder(TOKENIZER, load_template("movies"), TITLES, 10, 256)
RESPONSES = [ENCODER.response_ids(item) for item in range(1, len(TITLES))]
PROMPTS = [ENCODER.encode(history) for history in ([1, 2, 3], [5], [])]
#: A window that no prompt fits in, and one that prompts and titles do.
GEMMA = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
WIDE = {**GEMMA, "sliding_window": 512}


def one_by_one(model, prompt):
    found = []
    for response in RESPONSES:
        ids = torch.tensor([prompt.input_ids + response])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(prompt.input_ids) - 1 : -1]
        found.append(float(logits.double().log_softmax(-1).gather(1, torch.tensor(response)[:, None]).sum()))
    return found


@pytest.mark.parametrize(
    ("architecture", "changes", "shared"),
    [
        ("llama", None, True),
        ("gpt2", None, True),
        ("gemma3_text", WIDE, True),
        ("gemma3_text", GEMMA, False),
        ("mistral", {"sliding_window": 16}, False),
        ("qwen2", {"sliding_window": 16}, True),
        ("mamba", None, False),
        ("jamba", None, False),
        ("bloom", None, False),
        ("mpt", None, False),
    ],
)
@pytest.mark.parametrize("adapted", [False, True])
def test_scores_are_those_of_prompt_and_title_as_one_sequence(
    architecture, changes, shared, adapted, monkeypatch, caplog
):
    caplog.set_level("INFO", "dealrec.run")
    model = small_model(architecture, changes)
    if adapted:
        model = attach_lora(model, LoraSpec(r=2, targets=("all-linear",)))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.3)
    share = shares_prompts(model, PROMPTS[:2], RESPONSES[:5], ENCODER.prompt_tokens + 20)
    assert share == shared
    assert ("do not share it in the cache" in caplog.text) != shared
    # Small packs, so that titles with a common beginning fall into several.
    monkeypatch.setitem(title_likelihood._PACK_TOKENS, "cpu", 12)
    scorer = TitleLikelihood(model, RESPONSES, 0, share, batch_tokens=300)
    for prompt in PROMPTS:
        np.testing.assert_allclose(scorer.score(prompt), one_by_one(model, prompt), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("architecture", "shared"), [("llama", True), ("gpt2", True), ("mpt", False)])
def test_rounding_is_told_from_another_answer(dtype, architecture, shared):
    model = small_model(architecture).to(dtype)
    assert shares_prompts(model, PROMPTS[:2], RESPONSES[:3], ENCODER.prompt_tokens + 20) == shared


def test_the_prompt_is_read_once_and_common_beginnings_too():
    model, read = small_model("llama"), []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    TitleLikelihood(model, RESPONSES, 0, share=True).score(PROMPTS[0])
    prefixes = {tuple(ids[:length]) for ids in RESPONSES for length in range(1, len(ids))}
    assert read == [len(PROMPTS[0].input_ids), len(prefixes)]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(3, 6), max_size=5).map(lambda ids: [*ids, 2]), min_size=1, max_size=20),
    st.integers(1, 12),
)
def test_packs_hold_every_response_once_in_trees_of_few_tokens(rows, most):
    packs = pack_titles(rows, most)
    assert sorted(row for pack in packs for row in pack.rows.tolist()) == list(range(len(rows)))
    for pack in packs:
        assert len(pack) <= max(most, *(len(rows[row]) - 1 for row in pack.rows.tolist()))
        branches: dict[int, list[int]] = {}
        for token, parent in enumerate(pack.parents.tolist()):
            branches[token] = [*(branches[parent] if parent != PROMPT else []), token]
            assert pack.visible[token].nonzero().flatten().tolist() == branches[token]
            assert int(pack.depths[token]) == len(branches[token]) - 1
        for row, last, end in zip(pack.rows.tolist(), pack.last.tolist(), pack.ends.tolist(), strict=True):
            path = branches[last] if last != PROMPT else []
            assert [*pack.tokens[path].tolist(), end] == rows[row]
        texts = [tuple(pack.tokens[branch].tolist()) for branch in branches.values()]
        assert len(set(texts)) == len(texts)

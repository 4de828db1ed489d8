"""Constrained decoding against free decoding of the same length, and our beam search against transformers'.

The bar: constrained decoding takes at most 1.25 times as long. To decode the same number of tokens, every path of the
trie has exactly that length, and nothing ends free decoding early.

    python -m benchmarks.generation
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.contest import in_turn, verdict
from benchmarks.llm_inputs import Inputs, device, parser, read_inputs
from pipeline.cli.text_table import format_table
from training.llm.loading import load_llm
from training.llm.prompts import PromptEncoder
from training.llm.token_batches import TokenBatch, token_batches
from training.ranking.beam_search import BeamSettings, beam_search
from training.ranking.generate import TitleGenerator
from training.ranking.title_trie import TitleTrie, TrieSteering

BAR = 1.25


class Endless:
    """Free decoding that never ends early."""

    def __init__(self, where: torch.device) -> None:
        self._device = where

    def start(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.long, device=self._device)

    def allowed(self, states: Tensor) -> None:
        return None

    def advance(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return states, torch.zeros_like(tokens, dtype=torch.bool)


def main() -> None:
    command = parser(__doc__, samples=8, repeats=3)
    command.add_argument("--beams", type=int, default=4)
    command.add_argument("--length", type=int, default=12, help="number of tokens to generate")
    command.add_argument("--batch-tokens", type=int, default=4096, help="prompt tokens per batch, times beams")
    arguments = command.parse_args()
    inputs = read_inputs(arguments)
    encoder = inputs.encoder(arguments.max_items)
    where = device()
    model = load_llm(inputs.llm, where)
    encoded = [encoder.encode(history) for history in inputs.histories]
    pad = int(encoder.tokenizer.pad_token_id)
    batches = [b.to(where) for b in token_batches(encoded, pad, arguments.batch_tokens // arguments.beams)]
    trie = long_trie(inputs, encoder, arguments.length).to(where)
    titles = TitleTrie.build([encoder.response_ids(item) for item in range(1, len(inputs.titles))])
    settings = BeamSettings(arguments.beams, arguments.length)
    real = BeamSettings(arguments.beams, 32, 0.0)
    constrained = TitleGenerator(model, encoder.tokenizer, real, titles)
    free = TitleGenerator(model, encoder.tokenizer, BeamSettings(arguments.beams, 32))

    times = in_turn(
        {
            "constrained": lambda: [beam_search(model, b, TrieSteering(trie), settings) for b in batches],
            "free": lambda: [beam_search(model, b, Endless(where), settings) for b in batches],
            "transformers generate": lambda: [_generate(model, b, settings) for b in batches],
            "constrained, until titles end": lambda: [constrained.run(b) for b in batches],
            "free, until titles end": lambda: [free.run(b) for b in batches],
        },
        arguments.repeats,
        arguments.clock,
    )
    rows = [
        {
            "contender": name,
            "s per prompt": round(times.median(name) / len(encoded), 4),
            "over free": times.ratio(name, "free"),
        }
        for name in times.seconds
    ]
    print(
        f"{len(encoded)} prompts, {arguments.beams} beams, {arguments.length} tokens, {len(inputs.titles) - 1} titles"
    )
    print(format_table(rows))
    ratio = times.ratio("constrained", "free")
    print(verdict("constrained / free", ratio, f"at most {BAR}", ratio <= BAR))


def long_trie(inputs: Inputs, encoder: PromptEncoder, length: int) -> TitleTrie:
    """Build a trie of the catalogue's titles, each followed by the next ones up to `length` tokens."""
    titles = [encoder.response_ids(item)[:-1] for item in range(1, len(inputs.titles))]
    endless = [itertools.chain(*titles[start : start + length], *titles[:length]) for start in range(len(titles))]
    return TitleTrie.build([list(itertools.islice(path, length)) for path in endless])


def _generate(model: PreTrainedModel, batch: TokenBatch, settings: BeamSettings) -> Tensor:
    config = GenerationConfig(
        num_beams=settings.beams,
        min_new_tokens=settings.max_new_tokens,
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=0,
    )
    found: Tensor = model.generate(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, generation_config=config
    )
    return found


if __name__ == "__main__":
    main()

"""Constrained decoding against free decoding of the same length, our beam search against transformers', and what
every decoding of `evaluate` takes for a user.

The bar: constrained decoding takes at most 1.25 times as long as free decoding. To decode the same number of tokens,
every path of the trie has exactly that length, and nothing ends free decoding early. The decodings go until titles end.
A model whose continuations share their prompt is measured so; "copied" gives each beam a copy instead.

    python -m benchmarks.generation
    python -m benchmarks.generation --decodings likelihood --samples 2 --repeats 1
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.contest import in_turn, verdict
from benchmarks.llm_inputs import Inputs, device, parser, read_inputs
from pipeline.cli.text_table import format_table
from pipeline.stages.llm_ranker import shares
from training.llm.loading import load_llm
from training.llm.prompts import EncodedPrompt, PromptEncoder
from training.llm.token_batches import TokenBatch, token_batches
from training.ranking.beam_search import BeamSettings, beam_search
from training.ranking.generate import TitleGenerator
from training.ranking.title_likelihood import TitleLikelihood
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


#: What --decodings may name.
DECODINGS = (
    "same length",
    "free 4",
    "free 4, copied",
    "constrained 4",
    "constrained 4, copied",
    "constrained 10",
    "constrained 10, copied",
    "constrained 20",
    "constrained 20, copied",
    "likelihood",
)


def main() -> None:
    command = parser(__doc__, samples=8, repeats=3)
    command.add_argument("--beams", type=int, default=4, help="beams of the decodings of the same length")
    command.add_argument("--length", type=int, default=12, help="number of tokens to generate")
    command.add_argument("--batch-tokens", type=int, default=4096, help="prompt tokens per batch, times copied beams")
    command.add_argument("--titles", type=int, help="titles of the catalogue; all by default")
    command.add_argument("--decodings", nargs="+", choices=DECODINGS, default=DECODINGS[:4:3], metavar="NAME")
    arguments = command.parse_args()
    inputs = read_inputs(arguments)
    encoder = inputs.encoder(arguments.max_items)
    where = device()
    model = load_llm(inputs.llm, where)
    encoded = [encoder.encode(history) for history in inputs.histories]
    count = min(arguments.titles or len(inputs.titles), len(inputs.titles) - 1)
    contest = EveryDecoding(model, encoder, encoded, arguments.batch_tokens, count)
    contenders: dict[str, Callable[[], object]] = {}
    if "same length" in arguments.decodings:
        trie = long_trie(inputs, encoder, arguments.length).to(where)
        settings = BeamSettings(arguments.beams, arguments.length)
        share, batches = contest.share, contest.batches(1 if contest.share else arguments.beams)
        contenders |= {
            "constrained": lambda: [beam_search(model, b, TrieSteering(trie), settings, share) for b in batches],
            "free": lambda: [beam_search(model, b, Endless(where), settings, share) for b in batches],
            "transformers generate": lambda: [_generate(model, b, settings) for b in batches],
        }
    contenders |= {name: contest.decoding(name) for name in arguments.decodings if name != "same length"}
    times = in_turn(contenders, arguments.repeats, arguments.clock)
    base = "free" if "free" in contenders else next(iter(contenders))
    rows = [
        {
            "contender": name,
            "s per prompt": round(times.median(name) / len(encoded), 4),
            f"over {base}": times.ratio(name, base),
        }
        for name in times.seconds
    ]
    tokens = sum(len(prompt.input_ids) for prompt in encoded) / len(encoded)
    print(f"{len(encoded)} prompts of {tokens:.0f} tokens, {count} titles; sharing prompts: {contest.share}")
    print(format_table(rows))
    if "free" in contenders:
        ratio = times.ratio("constrained", "free")
        print(verdict("constrained / free", ratio, f"at most {BAR}", ratio <= BAR))


class EveryDecoding:
    """One model and its prompts under every decoding."""

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: PromptEncoder,
        encoded: list[EncodedPrompt],
        batch_tokens: int,
        count: int,
    ) -> None:
        self._model = model
        self._encoder = encoder
        self._encoded = encoded
        self._pad = int(encoder.tokenizer.pad_token_id)
        self._batch_tokens = batch_tokens
        self._responses = [encoder.response_ids(item) for item in range(1, count + 1)]
        self.share = shares(model, encoder, count, max(map(len, self._responses)))

    def batches(self, copies: int) -> list[TokenBatch]:
        """Return batches of the prompts, on the model's device, for so many copies of each."""
        cut = token_batches(self._encoded, self._pad, max(1, self._batch_tokens // copies))
        return [batch.to(self._model.device) for batch in cut]

    def decoding(self, name: str) -> Callable[[], object]:
        """Return what decodes all prompts once."""
        kind, _, copied = name.partition(", ")
        share = self.share and not copied
        if kind == "likelihood":
            scorer = TitleLikelihood(self._model, self._responses, self._pad, share)
            return lambda: [scorer.score(prompt) for prompt in self._encoded]
        word, beams = kind.split()
        trie = TitleTrie.build(self._responses) if word == "constrained" else None
        settings = BeamSettings(int(beams), max(map(len, self._responses)) if trie else 32, float(trie is None))
        generator = TitleGenerator(self._model, self._encoder.tokenizer, settings, trie, share)
        batches = self.batches(1 if share else int(beams))
        return lambda: [generator.run(batch) for batch in batches]


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

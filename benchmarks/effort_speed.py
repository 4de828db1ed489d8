"""Effort scores of the last layer against a bare forward pass over the same batches.

The bar: at most 1.3 times the forward pass. The strict baseline computes logits only for the response, as the scorer
does; a plain `model(...)` computes them for every token. On a GPU, the scorer must also be at least 10 times as fast
per sample as a loop over single samples with a full backward pass.

    python -m benchmarks.effort_speed
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from benchmarks.contest import in_turn, verdict
from benchmarks.llm_inputs import device, parser, read_inputs
from pipeline.cli.text_table import format_table
from scoring.effort import EffortScorer
from training.llm.llm_spec import LoraSpec
from training.llm.loading import load_llm
from training.llm.lora import attach_lora
from training.llm.token_batches import TokenBatch, collate, token_batches
from training.loops.finetune_data import sample_losses

BAR, LOOP_BAR = 1.3, 10.0


def main() -> None:
    command = parser(__doc__, samples=64, repeats=5)
    command.add_argument("--batch-tokens", type=int, default=2048, help="cells per batch, including padding")
    command.add_argument("--loop-samples", type=int, default=8, help="samples of the single-sample loop")
    arguments = command.parse_args()
    inputs = read_inputs(arguments)
    encoder = inputs.encoder(arguments.max_items)
    pad = int(encoder.tokenizer.pad_token_id)
    encoded = [encoder.encode(h, t) for h, t in zip(inputs.histories, inputs.targets, strict=True)]
    batches = [batch.to(device()) for batch in token_batches(encoded, pad, arguments.batch_tokens)]
    singles = [collate(encoded, pad, [row]).to(device()) for row in range(min(arguments.loop_samples, len(encoded)))]
    bare = load_llm(inputs.llm, device())
    scorer = EffortScorer(attach_lora(load_llm(inputs.llm, device()), LoraSpec()), "last_v")

    times = in_turn(
        {
            "effort, last_v": lambda: [scorer.per_sample_norms(batch) for batch in batches],
            "forward, logits of the response": lambda: _forward(bare, batches, response_only=True),
            "forward, all logits": lambda: _forward(bare, batches, response_only=False),
        },
        arguments.repeats,
        arguments.clock,
    )
    bare.requires_grad_(True)
    loop = in_turn(
        {"one sample at a time, full backward": lambda: _loop(bare, singles)},
        min(2, arguments.repeats),
        arguments.clock,
    )

    rows = []
    for measured, count in ((times, len(encoded)), (loop, len(singles))):
        for name in measured.seconds:
            per_sample = measured.median(name) / count
            rows.append({"contender": name, "samples": count, "ms per sample": round(1000 * per_sample, 2)})
    print(format_table(rows))
    ratio = times.ratio("effort, last_v", "forward, logits of the response")
    speedup = (loop.median(next(iter(loop.seconds))) / len(singles)) / (times.median("effort, last_v") / len(encoded))
    print(verdict("effort / forward (response logits)", ratio, f"at most {BAR}", ratio <= BAR))
    print(f"effort / forward (all logits): {times.ratio('effort, last_v', 'forward, all logits'):.3f}")
    print(verdict("speed-up over the loop", speedup, f"at least {LOOP_BAR:g} on a GPU", speedup >= LOOP_BAR))


@torch.inference_mode()
def _forward(model: PreTrainedModel, batches: list[TokenBatch], response_only: bool) -> None:
    for batch in batches:
        keep = batch.logits_to_keep if response_only else 0
        model(**batch.model_inputs(), use_cache=False, logits_to_keep=keep)


def _loop(model: PreTrainedModel, batches: list[TokenBatch]) -> None:
    for batch in batches:
        sample_losses(model, batch).sum().backward()
        model.zero_grad()


if __name__ == "__main__":
    main()

"""Fine-tuning by Ray Train and DeepSpeed against a bare PyTorch and PEFT loop on the same batches.

The bars: at least 0.95 of the bare loop's tokens per second (one worker and the same threads, excluding startup: both
take turns step by step in one Ray Train worker), and two one-thread workers at least 1.6 times as fast as one.

    python -m benchmarks.finetune_speed
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.contest import verdict
from benchmarks.finetune_loops import Contest, PairedSteps, Steps, against_bare, alone
from benchmarks.llm_inputs import examples_table, parser, read_inputs
from cluster.progress import Progress, SilentProgress
from cluster.session import ray_session
from cluster.storage import Storage
from pipeline.cli.text_table import format_table
from training.llm.llm_config import LlmConfig
from training.loops.examples import encode_examples
from training.loops.finetune_config import FinetuneConfig
from training.loops.finetune_spec import FinetuneJob, FinetuneSpec
from training.loops.launch import Launch, launch
from training.loops.worker_placement import Placement

BARE_BAR, WORKERS_BAR = 0.95, 1.6
_AGREE = 0.02
Result = TypeVar("Result")


def main() -> None:
    command = parser(__doc__, samples=64, repeats=2)
    command.add_argument("--zero", type=int, default=2, help="ZeRO stage")
    command.add_argument("--global-batch", type=int, default=16, help="samples per optimizer step")
    command.add_argument("--steps", type=int, default=6, help="measured steps per repetition")
    command.add_argument("--gpu", action="store_true", help="train on GPUs")
    command.add_argument("--skip-workers", action="store_true", help="skip the comparison of two workers with one")
    arguments = command.parse_args()
    inputs = read_inputs(arguments)
    placement = Placement(use_gpu=arguments.gpu, threads=arguments.threads)
    llm = {"model": inputs.llm.model, "dtype": inputs.llm.dtype, "max_items": arguments.max_items}
    settings = FinetuneConfig(
        zero=arguments.zero,
        global_batch=arguments.global_batch,
        lora_dropout=0.0,
        epochs=3,
        lr=1e-4,
        micro_batch_tokens=4096,
    )
    spec = FinetuneSpec(LlmConfig.model_validate(llm), settings, placement=placement)
    encoder = inputs.encoder(arguments.max_items)
    table = encode_examples(examples_table(inputs.histories, inputs.targets), encoder)
    pad = int(encoder.tokenizer.pad_token_id)
    with tempfile.TemporaryDirectory() as scratch, ray_session("local", cpus=2):
        folder = Storage.at(scratch)
        for name in ("train", "valid"):
            folder.child("examples").write_table(f"{name}.parquet", table)
        job = FinetuneJob(spec, folder, "benchmark", pad)

        def run(loop: Callable[[Contest, Progress], Result], workers: int, name: str) -> Result:
            # Workers wait for one another, so two workers can only be compared by wall time.
            contest = Contest(job, arguments.steps, arguments.clock if loop is against_bare else "wall")
            environment = {"DS_ACCELERATOR": "cuda" if arguments.gpu else "cpu"}
            training = Launch("finetune", name, workers, placement, environment)
            found: Result = launch(loop, contest, training, Storage.at(Path(scratch, name)), SilentProgress())
            return found

        _against_bare([run(against_bare, 1, f"bare-{turn}") for turn in range(arguments.repeats)])
        if not arguments.skip_workers:
            turns = [[run(alone, count, f"w{count}-{turn}") for count in (1, 2)] for turn in range(arguments.repeats)]
            _workers(turns)


def _against_bare(found: Sequence[PairedSteps]) -> None:
    for one in found:
        for ours, bare in zip(one["losses"]["ours"], one["losses"]["bare"], strict=True):
            if not math.isclose(ours, bare, rel_tol=_AGREE):
                raise RuntimeError(f"the two loops train differently: losses {ours} and {bare}")
    tokens = sum(sum(one["tokens"]) for one in found)
    rows = [
        {"contender": label, "tokens/s": round(tokens / sum(sum(one["seconds"][name]) for one in found))}
        for name, label in (("ours", "Ray Train and DeepSpeed"), ("bare", "PyTorch and PEFT"))
    ]
    print(format_table(rows))
    # The median over steps of the ratio within a step, since a disturbance seldom affects both parts of a step alike.
    pairs = [pair for one in found for pair in zip(one["seconds"]["ours"], one["seconds"]["bare"], strict=True)]
    ratio = statistics.median(bare / ours for ours, bare in pairs)
    print(verdict("tokens/s over the bare loop's", ratio, f"at least {BARE_BAR}", ratio >= BARE_BAR))


def _workers(turns: Sequence[Sequence[Steps]]) -> None:
    speeds = [[sum(one["tokens"]) / sum(one["seconds"]) for one in turn] for turn in turns]
    rows = [{"turn": turn, "one worker": round(a), "two workers": round(b)} for turn, (a, b) in enumerate(speeds, 1)]
    print(format_table(rows))
    ratio = statistics.median(two / one for one, two in speeds)
    print(verdict("tokens/s, two workers over one", ratio, f"at least {WORKERS_BAR}", ratio >= WORKERS_BAR))


if __name__ == "__main__":
    main()

"""Fine-tuning of the last layers against that of all layers, and against a bare PyTorch and PEFT loop.

The bars: with `--layers`, at least 4 times the tokens per second of LoRA on query and value of all layers, and 50
epochs over any samples in a quarter of its time, by the measured rates and with the frozen layers computed once; at
least 0.95 of the bare loop's tokens per second on the same states (one worker and the same threads, excluding startup:
all take turns step by step in one Ray Train worker); and two one-thread workers at least 1.6 times as fast as one.

    python -m benchmarks.finetune
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.contest import verdict
from benchmarks.finetune_loops import (
    Contest,
    LayerSteps,
    PairedSteps,
    Steps,
    against_all_layers,
    against_bare,
    alone,
)
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
from training.loops.trunk_states import CacheSettings
from training.loops.worker_placement import Placement

LAYERS_BAR, BARE_BAR, WORKERS_BAR = 4.0, 0.95, 1.6
EPOCHS = 50
_AGREE = 0.02
Result = TypeVar("Result")


def main() -> None:
    command = parser(__doc__, samples=64, repeats=2)
    command.add_argument("--zero", type=int, default=2, help="ZeRO stage")
    command.add_argument("--global-batch", type=int, default=16, help="samples per optimizer step")
    command.add_argument("--steps", type=int, default=6, help="measured steps per repetition")
    command.add_argument("--layers", default="4", help="last layers that are tuned, or all")
    command.add_argument("--targets", default="all-linear", help="maps that get LoRA, or qv")
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
        layers=arguments.layers if arguments.layers == "all" else int(arguments.layers),
        targets=None if arguments.targets == "qv" else arguments.targets,
    )
    encoder = inputs.encoder(arguments.max_items)
    table = encode_examples(examples_table(inputs.histories, inputs.targets), encoder)
    pad = int(encoder.tokenizer.pad_token_id)
    with tempfile.TemporaryDirectory() as scratch, ray_session("local", cpus=2):
        folder = Storage.at(scratch)
        cache = CacheSettings(str(Path(scratch, "states")))
        spec = FinetuneSpec(LlmConfig.model_validate(llm), settings, placement=placement, cache=cache)
        for name in ("train", "valid"):
            folder.child("examples").write_table(f"{name}.parquet", table)
        job = FinetuneJob(spec, folder, "benchmark", pad)

        def run(loop: Callable[[Contest, Progress], Result], workers: int, name: str) -> Result:
            # Workers wait for one another, so two workers can only be compared by wall time.
            contest = Contest(job, arguments.steps, "wall" if loop is alone else arguments.clock)
            environment = {"DS_ACCELERATOR": "cuda" if arguments.gpu else "cpu"}
            training = Launch("finetune", name, workers, placement, environment)
            found: Result = launch(loop, contest, training, Storage.at(Path(scratch, name)), SilentProgress())
            return found

        if settings.layers != "all":
            _against_all_layers([run(against_all_layers, 1, f"all-{turn}") for turn in range(arguments.repeats)])
        _against_bare([run(against_bare, 1, f"bare-{turn}") for turn in range(arguments.repeats)])
        if not arguments.skip_workers:
            turns = [[run(alone, count, f"w{count}-{turn}") for count in (1, 2)] for turn in range(arguments.repeats)]
            _workers(turns)


def _against_all_layers(found: Sequence[LayerSteps]) -> None:
    tokens = sum(sum(one["tokens"]) for one in found)
    rates = {name: tokens / sum(sum(one["seconds"][name]) for one in found) for name in ("upper", "all")}
    # The first turn computes the states; the others find them on disk.
    trunk = found[0]["state_tokens"] / found[0]["state_seconds"]
    labels = {"upper": "the last layers, from states", "all": "query and value of all layers"}
    rows = [{"contender": labels[name], "tokens/s": round(rate)} for name, rate in rates.items()]
    print(format_table([*rows, {"contender": "states of the frozen layers, once", "tokens/s": round(trunk)}]))
    pairs = [pair for one in found for pair in zip(one["seconds"]["upper"], one["seconds"]["all"], strict=True)]
    ratio = statistics.median(whole / upper for upper, whole in pairs)
    print(verdict("tokens/s over all layers'", ratio, f"at least {LAYERS_BAR}", ratio >= LAYERS_BAR))
    training = (1 / rates["all"]) / (1 / rates["upper"] + 1 / trunk / EPOCHS)
    what = f"time of all layers over that of the last, {EPOCHS} epochs with states"
    print(verdict(what, training, f"at least {LAYERS_BAR}", training >= LAYERS_BAR))


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

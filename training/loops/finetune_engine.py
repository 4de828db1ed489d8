"""The DeepSpeed engine around an LLM with LoRA, and a check that it is one.

The frozen weights keep the model's type (bfloat16, say); the adapter, its gradients and the optimizer are
float32, as PEFT itself trains adapters, so no stage rounds a small update away. float16 needs loss scaling
and goes through DeepSpeed's own float16 mode, whose optimizer keeps float32 masters.
"""

from __future__ import annotations

import contextlib
import io
import logging
import platform
from collections.abc import Iterator

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from peft import PeftModel
from torch import nn

from training.llm.loading import load_llm
from training.llm.lora import attach_lora
from training.llm.trunk import Trunk
from training.loops import native_op
from training.loops.finetune_spec import FinetuneSpec
from training.loops.launch import AgreedError, whereabouts
from training.loops.rank_gather import gathered
from training.loops.training_records import RankEvidence

log = logging.getLogger("dealrec.finetune")


def engine_config(spec: FinetuneSpec, trainable: int) -> dict[str, object]:
    """Return DeepSpeed's configuration.

    The loop marks the end of an accumulation itself and scales each loss by its share of the global batch, so
    the batch sizes here are nominal. Buckets are as large as the adapter: the defaults would reserve
    gigabytes for it.
    """
    zero: dict[str, object] = {
        "stage": spec.settings.zero,
        "reduce_bucket_size": max(trainable, 1024),
        "allgather_bucket_size": max(trainable, 1024),
        "overlap_comm": False,
    }
    if spec.settings.offload in ("optimizer", "all"):
        zero["offload_optimizer"] = {"device": "cpu"}
    if spec.settings.offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": spec.settings.clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "fp16": {"enabled": spec.llm.dtype == "float16", "initial_scale_power": 12},
        "steps_per_print": None,
    }


def prepare_process(spec: FinetuneSpec) -> None:
    """Bind DeepSpeed to the process group that Ray Train made. Raises `AgreedError` on all ranks alike."""
    deepspeed.utils.logger.setLevel(logging.ERROR)
    on_cpu = not spec.placement.use_gpu
    _agree(native_op.compiler_missing() if on_cpu else None)
    in_half = native_op.computes_in_half() if on_cpu else get_accelerator().is_fp16_supported()
    if spec.llm.dtype == "float16" and not in_half:
        raise AgreedError(
            "llm.dtype is float16, which the processors of this cluster cannot compute with.",
            "Set llm.dtype to bfloat16 or float32, or fine-tune on GPUs.",
        )
    with _quiet():
        if on_cpu:
            native_op.build_collective()
        deepspeed.init_distributed(dist_backend=dist.get_backend())


def load_adapted(spec: FinetuneSpec) -> PeftModel:
    """Load the model with its seeded adapter on the CPU, ready for the engine."""
    model = attach_lora(load_llm(spec.source), spec.lora)
    for parameter in trainable_parameters(model).values():
        parameter.data = parameter.data.float()
    if spec.settings.activation_checkpointing:
        # ZeRO-3 gathers weights again for the recomputation. Torch's non-reentrant form mistakes this for a
        # change of shape.
        model.gradient_checkpointing_enable({"use_reentrant": spec.settings.zero == 3})
        model.enable_input_require_grads()
    return model


def load_trunk(spec: FinetuneSpec, model: PeftModel) -> Trunk | None:
    """Split the model below the layers that are tuned; return None if all are.

    Call this before the engine is built, while the weights are whole.
    """
    return None if spec.lora.layers is None else Trunk(model, spec.lora.layers)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the adapter's parameters by name, in the order of the model."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def build_engine(spec: FinetuneSpec, model: PeftModel) -> deepspeed.DeepSpeedEngine:
    """Put the model under DeepSpeed with AdamW. Raises `RuntimeError` if the stage or the ranks are not as asked."""
    parameters = list(trainable_parameters(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=spec.settings.lr, weight_decay=spec.settings.weight_decay)
    config = engine_config(spec, sum(parameter.numel() for parameter in parameters))
    with _quiet():
        engine = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
    if not isinstance(engine, deepspeed.DeepSpeedEngine):
        raise RuntimeError(f"deepspeed.initialize gave {type(engine).__name__}, not a DeepSpeedEngine")
    if engine.zero_optimization_stage() != spec.settings.zero or engine.dp_world_size != dist.get_world_size():
        raise RuntimeError(
            f"asked for ZeRO stage {spec.settings.zero} on {dist.get_world_size()} workers, but the engine has stage "
            f"{engine.zero_optimization_stage()} on {engine.dp_world_size}"
        )
    return engine


def evidence(engine: deepspeed.DeepSpeedEngine) -> list[RankEvidence]:
    """Gather what every rank trains with, in the order of ranks; the same list on each. Collective."""
    frozen = next(parameter for parameter in engine.module.parameters() if not parameter.requires_grad)
    adapter = next(iter(trainable_parameters(engine.module).values()))
    here: RankEvidence = {
        "rank": dist.get_rank(),
        "world_size": dist.get_world_size(),
        "engine": f"{type(engine).__module__}.{type(engine).__qualname__}",
        "optimizer": type(engine.optimizer).__name__,
        "zero": int(engine.zero_optimization_stage()),
        "backend": dist.get_backend(),
        "accelerator": get_accelerator()._name,
        "device": str(engine.device),
        "dtype": str(frozen.dtype).removeprefix("torch."),
        "adapter_dtype": str(adapter.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        **whereabouts(),
    }
    return gathered(here)


def _agree(missing: str | None) -> None:
    """Raise on every rank if anything is missing on any."""
    for what, node in gathered((missing, platform.node())):
        if what is not None:
            raise AgreedError(*native_op.compiler_error(what, f"node {node}"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send DeepSpeed's announcements on standard output to the debug log."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            log.debug("deepspeed: %s", line)


def loss_scale(engine: deepspeed.DeepSpeedEngine) -> float:
    """Return the factor that a loss is multiplied by before `backward`.

    Without ZeRO and in float16, DeepSpeed divides the gradients by a scale that it has not multiplied the loss by.
    """
    scale = getattr(engine.optimizer, "loss_scale_config", None)
    return 1.0 if scale is None else float(scale.cur_scale)

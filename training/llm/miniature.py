"""Small random models of a given architecture, with which settings can be tried before any weights are read.

Widths, expert counts and vocabulary shrink. Classes, layer order and switches stay, and so does depth unless a number
of layers is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

import torch

from training.llm.loading import NO_REMOTE_CODE

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

VOCABULARY = 384
_HEADS, _GROUPS = 4, 2
_MOST_PARAMETERS = 20_000_000

_DEPTHS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "encoder_layers",
    "num_decoder_layers",
    "num_encoder_layers",
    "num_blocks",
    "depth",
    "num_layers_per_stack",
    "num_global_layers",
    "conf_num_hidden_layers",
)
_HEAD_COUNTS = (
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
    "decoder_attention_heads",
    "encoder_attention_heads",
    "num_decoder_attention_heads",
    "num_encoder_attention_heads",
    "attention_heads",
    "swa_num_attention_heads",
    "index_n_heads",
    "linear_num_heads",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "conf_num_attention_heads",
)
_GROUP_COUNTS = ("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "kv_n_heads", "num_query_groups")
#: Reduced value of each size, by the names that configurations of transformers use for it.
_SIZES: dict[int, tuple[str, ...]] = {
    VOCABULARY: ("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size", "decoder_vocab_size"),
    512: (
        "max_position_embeddings",
        "n_positions",
        "n_ctx",
        "max_seq_len",
        "context_length",
        "max_target_positions",
        "max_source_positions",
    ),
    64: (
        "attention_hidden_size",
        "mamba_d_ssm",
        "encoder_hash_byte_group_vocab",
        "image_size",
        "num_position_embeddings",
        "output_channels",
    ),
    48: (
        "intermediate_size",
        "ffn_dim",
        "decoder_ffn_dim",
        "encoder_ffn_dim",
        "dim_ff",
        "dff",
        "d_inner",
        "d_ff",
        "n_inner",
        "mlp_dim",
        "ffn_hidden_size",
        "expert_ffn_hidden_size",
        "feed_forward_size",
        "moe_intermediate_size",
        "dense_intermediate_size",
        "intermediate_size_mlp",
        "shared_intermediate_size",
        "shared_expert_intermediate_size",
        "shared_experts_intermediate_size",
        "moe_shared_expert_intermediate_size",
    ),
    32: (
        "hidden_size",
        "hidden_size_global",
        "backbone_hidden_size",
        "d_model",
        "n_embd",
        "emb_dim",
        "embed_dim",
        "embedding_size",
        "embedding_dim",
        "word_embed_proj_dim",
        "lru_width",
        "input_embedding_size",
        "output_embedding_size",
        "pronunciation_embed_dim",
        "shape_embed_dim",
        "out_hidden_size",
        "projector_input_dim",
        "projector_output_dim",
        "adapter_input_size",
        "input_size",
        "mlp_channels",
    ),
    16: (
        "qk_head_dim",
        "q_lora_rank",
        "kv_lora_rank",
        "o_lora_rank",
        "index_head_dim",
        "hidden_size_per_layer_input",
        "laurel_rank",
        "router_hidden_size",
        "hc_lowrank",
        "gated_norm_rank",
        "d_rel",
        "adapter_rank",
        "ple_embed_dim",
        "attention_head_dim",
        "patch_size",
    ),
    8: (
        "head_dim",
        "dim_head",
        "d_head",
        "d_kv",
        "swa_head_dim",
        "global_head_dim",
        "v_head_dim",
        "qk_rope_head_dim",
        "qk_nope_head_dim",
        "linear_head_dim",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "kv_channels",
        "attention_head_size",
        "mamba_n_heads",
        "n_mamba_heads",
        "mamba_d_head",
        "mamba_d_state",
        "mamba_num_heads",
        "mamba_head_dim",
        "mamba_headdim",
        "mamba_dt_rank",
        "state_size",
        "ssm_state_size",
        "time_step_rank",
        "rotary_dim",
    ),
    4: ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "zero_expert_num"),
    2: ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "altup_num_inputs"),
    1: (
        "n_group",
        "n_groups",
        "topk_group",
        "num_expert_group",
        "n_shared_experts",
        "num_shared_experts",
        "moe_num_shared_experts",
        "mamba_n_groups",
        "mamba_ngroups",
    ),
}
_SIZE_OF = {name: size for size, names in _SIZES.items() for name in names} | dict.fromkeys(_HEAD_COUNTS, _HEADS)


def miniature(
    config: PreTrainedConfig, changes: Mapping[str, object] | None = None, layers: int | None = None
) -> PreTrainedConfig:
    """Return the configuration with small widths and at most `layers` layers (None keeps all).

    `changes` overrides values; changes to nested configurations are nested mappings. Lists with one entry per layer
    are cut together with the layers.
    """
    return type(config).from_dict(_shrunk(config.to_dict(), changes or {}, layers))


def miniature_model(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """Build a random float32 model from a configuration, in evaluation mode. The global random state is preserved.

    Raises `ValueError` if the model is not small, and the library's own errors if the sizes are inconsistent.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        count = sum(p.numel() for p in AutoModelForCausalLM.from_config(config, **NO_REMOTE_CODE).parameters())
    if count > _MOST_PARAMETERS:
        raise ValueError(f"the reduced model still has {count} parameters")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **NO_REMOTE_CODE)
        return model.eval()


def _shrunk(values: Mapping[str, object], changes: Mapping[str, object], layers: int | None) -> dict[str, object]:
    depth = next((count for name in _DEPTHS if _is_count(count := values.get(name))), 0)
    kept = next((count for name in _DEPTHS if _is_count(count := changes.get(name))), min(depth, layers or depth))
    result: dict[str, object] = {}
    for name, value in values.items():
        change = changes.get(name)
        inner = change if isinstance(change, Mapping) else {}
        if name in changes and not (_is_nested(value, name) and inner):
            result[name] = change
        elif isinstance(value, dict) and name == "per_layer_config":
            result[name] = {int(layer): _shrunk(one, {}, None) for layer, one in value.items() if int(layer) < kept}
        elif _is_nested(value, name):
            result[name] = _shrunk(value, inner, layers)
        elif name in _DEPTHS and _is_count(value):
            result[name] = min(value, layers or value)
        elif isinstance(value, list) and len(value) == depth:
            result[name] = [_small_size(name, one, values) for one in value[:kept]]
        else:
            result[name] = _small_size(name, value, values)
    return result | {name: value for name, value in changes.items() if name not in values}


def _small_size(name: str, value: object, values: Mapping[str, object]) -> object:
    if not _is_count(value):
        return value
    if name in _GROUP_COUNTS:
        heads = next((values[count] for count in _HEAD_COUNTS if count in values), None)
        return _HEADS if value == heads else min(value, _GROUPS)
    if name.endswith(("_token_id", "_token_index")):
        return min(value, VOCABULARY - 4)
    return min(value, _SIZE_OF.get(name, value))


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_nested(value: object, name: str) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict) and (name.endswith("_config") or name in ("encoder", "decoder"))

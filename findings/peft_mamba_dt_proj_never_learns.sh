#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.23.0: LoRA on the dt_proj of Mamba, FalconMamba and Jamba is accepted and never learns.
#
# The mixers of these models multiply by the weight of dt_proj themselves and do not call the module, so the adapter around
# it is no part of the forward pass: its tensors get no gradient, and they are saved all the same. PEFT knows the case, as it
# refuses conv1d and out_proj of models of type mamba, but dt_proj is not on its list, and nothing warns.
# What helps: leave dt_proj out of target_modules, or drop adapted modules that a forward pass does not call.
#
# Installs the packages in a temporary folder and fails when the behaviour is another.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2
cd "$folder"
venv/bin/python - > seen.txt 2> messages.txt <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, FalconMambaConfig, JambaConfig, MambaConfig

MAPS = ["in_proj", "x_proj", "dt_proj"]
common = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2}
jamba = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "num_experts": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
}
for config in (MambaConfig(**common), FalconMambaConfig(**common), JambaConfig(**common, **jamba)):
    model = get_peft_model(AutoModelForCausalLM.from_config(config), LoraConfig(r=2, target_modules=MAPS))
    model(input_ids=torch.arange(1, 9)[None], use_cache=False).logits.sum().backward()
    adapted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    idle = {name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None}
    maps = sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in idle})
    print(f"{type(config).__name__}: {len(idle)} of {len(adapted)} tensors without a gradient, on {', '.join(maps)}")
PYTHON
cat > expected.txt <<'TEXT'
MambaConfig: 4 of 12 tensors without a gradient, on dt_proj
FalconMambaConfig: 4 of 12 tensors without a gradient, on dt_proj
JambaConfig: 2 of 6 tensors without a gradient, on dt_proj
TEXT
diff expected.txt seen.txt && ! grep -i dt_proj messages.txt && echo "as described"

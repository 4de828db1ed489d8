"""A driver hands work to actors, and does not load for seconds what only they need."""

import subprocess
import sys

from pipeline.stages.stage_list import STAGE_NAMES

_SCRIPT = """
import sys
from importlib import import_module
for module in sys.argv[1:]:
    import_module(module)
print(*(library for library in ("transformers", "peft", "deepspeed") if library in sys.modules))
"""


def test_no_stage_loads_model_libraries_in_the_driver() -> None:
    stages = [f"pipeline.stages.{stage}_stage" for stage in (*STAGE_NAMES, "surrogate_feature", "reference_influence")]
    command = [sys.executable, "-c", _SCRIPT, *stages]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == ""

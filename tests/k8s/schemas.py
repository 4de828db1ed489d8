"""Rendered manifests against the schemas of KubeRay's custom resources, where those are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from cluster.project_root import PROJECT_ROOT
from tests.k8s.rendering import Manifest

VARIABLE = "DEALREC_KUBERAY_SCHEMAS"
_FILES = {"RayJob": "rayjobs.v1.schema.json", "RayCluster": "rayclusters.v1.schema.json"}


def schema_faults(manifest: Manifest) -> list[str]:
    """What the schema objects to. Skips the test where the schemas are not there."""
    folder = Path(os.environ.get(VARIABLE) or PROJECT_ROOT.parent / "shared" / "kuberay")
    path = folder / _FILES[manifest["kind"]]
    if not path.exists():
        pytest.skip(f"no {path.name} in {folder}; {VARIABLE} names the folder of KubeRay's schemas")
    validator = Draft7Validator(strict(json.loads(path.read_text(encoding="utf-8"))))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def strict(schema: Any) -> Any:
    """The schema as the API server applies it: either-type quantities, and no fields that it does not name."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(inner) for key, inner in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        result.pop("anyOf", None)
        result["type"] = ["integer", "string"]
    preserves = schema.get("x-kubernetes-preserve-unknown-fields") is True
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not preserves:
        result.setdefault("additionalProperties", False)
    return result

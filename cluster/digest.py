"""What tells one content from another: of files, of tensors, of settings."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(data: bytes) -> str:
    """128 bits of BLAKE2b, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def json_digest(value: Any) -> str:
    """The digest of a JSON value, whatever the order of its keys. Raises `TypeError` for what JSON cannot hold."""
    return digest(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8"))

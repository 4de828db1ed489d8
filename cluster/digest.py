"""Content digests of files, tensors and settings."""

from __future__ import annotations

import hashlib
import json


def digest(data: bytes) -> str:
    """Return 128 bits of BLAKE2b in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def json_digest(value: object) -> str:
    """Return the digest of a JSON value, independent of key order. Raises `TypeError` for what is not JSON."""
    return digest(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8"))

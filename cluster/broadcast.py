"""Sharing a set of arrays with one copy per node, and a saved copy as a fallback."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import ray
from ray.exceptions import ObjectLostError
from safetensors.numpy import load, save

from cluster.storage import Storage

log = logging.getLogger("dealrec.cluster")


@dataclass(frozen=True)
class Broadcast:
    """Arrays in the object store. All workers of a node read the same pages.

    Attributes
    ----------
    reference : the object, put by the driver.
    storage, name : where the saved copy is, which is read if the object was lost with the node that owned it.
    """

    reference: ray.ObjectRef
    storage: Storage
    name: str

    @classmethod
    def put(cls, arrays: Mapping[str, npt.NDArray[np.generic]], storage: Storage, name: str) -> Broadcast:
        """Save the arrays as safetensors under `name`, and put them into the object store."""
        contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        storage.write_bytes(name, save(contiguous))
        return cls(ray.put(contiguous), storage, name)

    def get(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the arrays, which are read-only and shared with the node's other workers."""
        try:
            return ray.get(self.reference)
        except ObjectLostError:
            log.warning("The broadcast of %s was lost. Reading its saved copy.", self.name)
            return load(self.storage.read_bytes(self.name))

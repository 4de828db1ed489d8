"""The command line, but every object that it broadcasts is lost before anybody reads it. Says which."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import ray
from ray.exceptions import ObjectLostError

from cluster.broadcast import Broadcast
from cluster.storage import Storage
from pipeline.cli.main import main
from tests.cluster.fault_driver import Owner

log = logging.getLogger("dealrec.run")


def put_and_lose(arrays: Mapping[str, Any], storage: Storage, name: str) -> Broadcast:
    """As `Broadcast.put`, by an actor that is then killed: an object is lost with its owner."""
    owner = ray.remote(num_cpus=0)(Owner).remote()
    made: Broadcast = ray.get(owner.put.remote(arrays, storage, name))
    ray.kill(owner)
    try:
        while True:
            ray.get(made.reference)
            time.sleep(0.1)
    except ObjectLostError:
        log.info("lost: %s", name)
    return made


if __name__ == "__main__":
    with patch.object(Broadcast, "put", put_and_lose):
        raise SystemExit(main(sys.argv[1:]))

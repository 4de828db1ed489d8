"""Where it runs: the Ray session, resources, broadcast, sharded work, storage and jobs."""

"""Where a run executes: the Ray session, resources, broadcast, sharded work, storage and jobs."""

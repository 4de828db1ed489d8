"""What runs, and in which order: command line, configuration, stage graph, ingest and report."""

__version__ = "0.2.0"

"""Configuration, stage graph, manifests and the files of a run."""

"""Experiment trackers: MLflow, Weights & Biases, Trackio and TensorBoard, each behind one small protocol."""

"""The coreset and the gradients of a run, written for other tools."""

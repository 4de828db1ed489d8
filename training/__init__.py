"""The learning loops: surrogate, LLM fine-tuning, generation, grounding and ranking metrics."""

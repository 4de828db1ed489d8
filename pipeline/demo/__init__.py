"""The whole job on a real log and a real LLM, on a laptop."""

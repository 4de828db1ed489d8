"""One module per stage of the graph: what it reads, what it writes, and how it resumes."""

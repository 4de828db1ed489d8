"""What users call from Python, and what the commands of the command line call."""

"""`python -m pipeline` is `dealrec`."""

from pipeline.cli.main import entry

if __name__ == "__main__":
    entry()

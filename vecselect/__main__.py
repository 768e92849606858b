"""Runs the command line as `python -m vecselect`."""

from vecselect.cli import entry_point

if __name__ == "__main__":
    entry_point()

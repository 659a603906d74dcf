"""Fits a drivable head avatar to one person's video: the same as ``likeness fit``."""

import sys

from likeness.cli import run

if __name__ == "__main__":
    run("fit", sys.argv[1:])

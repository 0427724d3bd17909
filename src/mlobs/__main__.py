"""`python -m mlobs` is the command `mlobs`."""

from mlobs.cli import main

main()

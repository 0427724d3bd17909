"""The command `mlobs`: look at runs, deliver what is pending, check the installation.

Exit codes: 0 all is well; 1 something is wrong or still pending; 2 the command cannot be carried
out as it was typed. `--json` prints one document of strict JSON on stdout, where NaN and the
infinities are the strings "NaN", "Infinity", "-Infinity". All talk besides results is on stderr.
"""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line. A reader that closes the pipe early (`| head`) ends it quietly."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot spell is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    from mlobs.cli.app import app

    app(prog_name="mlobs", standalone_mode=True)

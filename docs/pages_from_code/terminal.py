"""Pictures of the command: `python -m pages_from_code.terminal FILE.svg COMMAND…`. Rule: only real output is shown.

The command runs in a pseudo-terminal, and its last screen is drawn. The pictures in `_static`:

    cd docs && python -m pages_from_code.terminal _static/demo.svg simplestore demo

With `--failing` before the file the command must exit with 1. The picture of `simplestore doctor` has the environment
of `simplestore sandbox --port 8080`, with another secret:

    export SIMPLESTORE_CLIENT_SECRET='"sandbox-secret"' XDG_CACHE_HOME=/var/cache SSL_CERT_FILE= SSL_CERT_DIR=
    cd docs && python -m pages_from_code.terminal --failing _static/doctor.svg simplestore doctor
"""

from __future__ import annotations

import os
import re
import shlex
import struct
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

__all__ = ["draw_screen", "run_in_terminal"]

_COLUMNS: Final = 100
_ERASED_LINE: Final = "\x1b[2K"

# rich's own format loads a font from another host.
_FORMAT: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
text {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run_in_terminal(command: list[str]) -> tuple[int, str]:
    """Return the exit code of *command*, and its terminal output, including control sequences."""
    import fcntl  # not on Windows
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, _COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:  # noqa: S603 - ours
        os.close(theirs)
        printed = bytearray()
        while part := _read(ours):
            printed += part
    os.close(ours)
    return process.returncode, printed.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the end of a terminal on Linux
        return b""


def draw_screen(command: list[str], printed: str) -> str:
    """Return an SVG of the terminal's final screen.

    Supports the control sequences that rich uses: colours and erasure.
    """
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", printed.rpartition(_ERASED_LINE)[2])
    title = shlex.join(command)
    console = Console(record=True, width=_COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {title}", style="bold"))
    console.print(Text.from_ansi(screen.strip("\n")))
    return console.export_svg(title=title, theme=MONOKAI, code_format=_FORMAT, unique_id="terminal")


def main(path: str, *command: str, expected_code: int = 0) -> None:
    """Draw *command* into the file at *path*.

    Raises:
        SystemExit: if the command does not exit with *expected_code*.
    """
    exit_code, printed = run_in_terminal([*command])
    if exit_code != expected_code:
        raise SystemExit(f"{shlex.join(command)} ended with {exit_code}:\n{printed}")
    Path(path).write_text(draw_screen([*command], printed), "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--failing":
        main(*sys.argv[2:], expected_code=1)
    else:
        main(*sys.argv[1:])

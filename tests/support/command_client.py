"""`simplestore` for shell scripts: a call to `command_server`, which costs a tenth of a new process.

The first argument is the descriptor of its socket.
"""

from __future__ import annotations

import json
import os
import socket
import sys

ours, theirs = socket.socketpair()
ours.sendall(json.dumps([sys.argv[2:], dict(os.environ), os.getcwd()]).encode() + b"\n")  # noqa: PTH109 - pathlib is slow
with socket.socket(fileno=int(sys.argv[1])) as server:
    socket.send_fds(server, [b"x"], [theirs.fileno(), 0, 1, 2])
theirs.close()
with ours.makefile("rb") as lines:
    _, code = lines
sys.exit(int(code))

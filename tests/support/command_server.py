"""A process that has imported the command and forks for each call, which is much faster than a new Python.

Standard input is a socket. Each byte on it comes with four descriptors: a socket and the three standard streams. The
socket brings the call in JSON, and takes the process's number and then its exit code, a line each. The server ends when
its own socket is closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import sys
import termios
from typing import NoReturn

from simplestore_async.cli import main

# Modules that the commands import late.
LIBRARIES = (
    *("aiohttp.web", "difflib", "encodings.idna", "filelock", "importlib.metadata", "platformdirs", "redis.asyncio"),
    "uvloop",
)
MODULES = (
    "cli._batch_display",
    "cli._batch_run",
    "cli._caches",
    "cli._demo_display",
    "cli._demo_run",
    "cli._doctor._check",
    "cli._doctor._plan",
    "cli._doctor._report",
    "cli._exchange",
    "cli._main",
    "_core.endpoint",
    "_core.renewal",
    "_core.wire",
    "sandbox._server",
)


def serve(calls: socket.socket) -> None:
    running: dict[int, socket.socket] = {}

    def report_ends(*_: object) -> None:
        while running and (end := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(end[0]) as call, contextlib.suppress(OSError):
                call.sendall(b"%d\n" % os.waitstatus_to_exitcode(end[1]))

    signal.signal(signal.SIGCHLD, report_ends)
    while True:
        _, descriptors, _, _ = socket.recv_fds(calls, 1, 4)
        if not descriptors:
            return
        call = socket.socket(fileno=descriptors[0])
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # until its process is among the running ones
        pid = os.fork()
        if not pid:
            run(call, *descriptors[1:])
        running[pid] = call
        call.sendall(b"%d\n" % pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for each in descriptors[1:]:
            os.close(each)


def run(call: socket.socket, *streams: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    with call, call.makefile("rb") as file:
        arguments, environment, directory = json.loads(file.readline())
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]  # it is a TextIOWrapper
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    code = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # the interpreter's own exit, which real processes prove, takes longer than most commands


if __name__ == "__main__":
    for name in (*LIBRARIES, *(f"simplestore_async.{module}" for module in MODULES)):
        importlib.import_module(name)
    gc.freeze()  # collections in a fork would copy the imported modules
    with socket.socket(fileno=os.dup(0)) as calls:
        serve(calls)

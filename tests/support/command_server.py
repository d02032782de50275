"""A process that has loaded the command, and forks for each call of it: a new Python would take far longer.

From the socket that is its standard input it gets a byte with three descriptors: of a socket that says what to run, and
then hears the exit code; of standard output; and of standard error. It ends when its socket is closed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys

from simplestore_async.cli import main

# What the commands import when they need it.
LIBRARIES = "filelock", "importlib.metadata", "platformdirs"
MODULES = (
    "cli._demo_display",
    "cli._doctor._plan",
    "cli._doctor._report",
    "cli._doctor._check",
    "cli._exchange",
    "cli._main",
    "cli._caches",
    "_core.endpoint",
    "_core.renewal",
    "_core.wire",
)


def serve(calls: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # child processes are not awaited here
    while True:
        _, descriptors, _, _ = socket.recv_fds(calls, 1, 3)
        if not descriptors:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with socket.socket(fileno=descriptors[0]) as call:
                run(call, *descriptors[1:])
            return
        for each in descriptors:
            os.close(each)


def run(call: socket.socket, stdout: int, stderr: int) -> None:
    with call.makefile("rb") as file:
        arguments, environment = json.load(file)
    if command := os.fork():
        _, status = os.waitpid(command, 0)
        call.sendall(b"%d" % os.waitstatus_to_exitcode(status))
        return
    for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.exit(main())


if __name__ == "__main__":
    for name in (*LIBRARIES, *(f"simplestore_async.{module}" for module in MODULES)):
        importlib.import_module(name)
    gc.freeze()  # so that no fork looks at what is loaded, and copies it
    with socket.socket(fileno=os.dup(0)) as calls:
        serve(calls)

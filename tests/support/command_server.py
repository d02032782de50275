"""A process that has imported the command and forks for each call, which is much faster than a new Python.

Standard input is a socket. Each byte on it comes with three descriptors: a socket that sends the arguments and
environment and receives the exit code, the standard output and the standard error. The process ends when its socket is
closed.
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

# Modules that the commands import late.
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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # child processes are not waited for
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
    gc.freeze()  # collections in a fork would copy the imported modules
    with socket.socket(fileno=os.dup(0)) as calls:
        serve(calls)

"""Run a command in a new console on Windows; each line of standard input is an event for that console."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

assert sys.platform == "win32"


def send_events() -> None:
    for line in sys.stdin:
        os.kill(0, int(line))


ctypes.windll.kernel32.FreeConsole()
ctypes.windll.kernel32.AllocConsole()
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stdout, stderr=sys.stderr)
for number in (signal.SIGINT, signal.SIGBREAK):
    signal.signal(number, lambda *_: None)  # the events reach this process as well
threading.Thread(target=send_events, daemon=True).start()
while process.poll() is None:  # wait() would block the handlers
    try:
        process.wait(0.1)
    except subprocess.TimeoutExpired:
        continue
os._exit(process.returncode & 0xFF)

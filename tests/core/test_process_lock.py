"""Locks of a provider and a memory cache in a forked process."""

from __future__ import annotations

import subprocess
import sys

from tests.support.platforms import needs_fork

_FORK = """
import asyncio, os, signal, threading, time
from simplestore_async import AccessToken, ClientCredentials, MemoryTokenCache, TokenProvider
from simplestore_async._core.state import ProviderState

may_go_on = threading.Event()
token = AccessToken("token", issued_at=0, expires_at=1)
provider = TokenProvider(ClientCredentials(client_id="app", client_secret="secret"))
rejects = ProviderState.rejects

class SlowClock:
    monotonic = time.monotonic

    def time(self):
        self.is_inside.set()
        may_go_on.wait()
        return time.time()

def reject_slowly(*args):
    is_rejecting.set()
    may_go_on.wait()
    return rejects(*args)

SlowClock.is_inside, is_rejecting = threading.Event(), threading.Event()
ProviderState.rejects = reject_slowly
storing = threading.Thread(target=lambda: asyncio.run(MemoryTokenCache(clock=SlowClock()).set("key", token)))
rejecting = threading.Thread(target=provider.invalidate, args=[token])
for thread, is_inside in ((storing, SlowClock.is_inside), (rejecting, is_rejecting)):
    thread.start()
    is_inside.wait()
ProviderState.rejects = rejects
child = os.fork()
if not child:
    signal.alarm(20)
    asyncio.run(MemoryTokenCache().set("key", token))
    os._exit(not provider.invalidate(token))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
may_go_on.set()
"""


@needs_fork
def test_fork() -> None:
    """A child that is forked while other threads hold the locks of a provider and a memory cache does not deadlock."""
    command = [sys.executable, "-W", "ignore", "-c", _FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ("0\n", "") == (done.stdout, done.stderr)

"""A worker whose jobs have an event loop each, as those of Celery or RQ: one provider outlives them all.

The token is held by the provider, not by a loop: however many jobs there are, it is asked for once an hour.

`python worker.py PATH…`
"""

from __future__ import annotations

import asyncio
import sys

from simplestore_async import TokenProvider, open_session

provider = TokenProvider()


def run_job(path: str) -> int:
    """Send one request, on an event loop of its own; this is what a task queue would call."""
    return asyncio.run(send(path))


async def send(path: str) -> int:
    """Return the status that the API answers."""
    async with open_session(provider) as session, session.get(path) as response:
        return response.status


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(run_job(path), path)

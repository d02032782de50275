"""A worker with an event loop per job, as in Celery or RQ: one provider for all jobs, and one token request per hour.

`python worker.py PATH…`
"""

from __future__ import annotations

import asyncio
import sys

from simplestore_async import TokenProvider, open_session

provider = TokenProvider()


def run_job(path: str) -> int:
    """Send one request on a new event loop; a task queue would call this."""
    return asyncio.run(send(path))


async def send(path: str) -> int:
    """Return the status of the API's response."""
    async with open_session(provider) as session, session.get(path) as response:
        return response.status


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(run_job(path), path)

"""Many processes for tests: a program that imports the package once, forks, and starts all children at one moment.

`run()` starts it. Its standard input is the job, and its standard output the results of all processes, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs

from simplestore_async import (
    ClientCredentials,
    FileTokenCache,
    RenewalPolicy,
    RetryPolicy,
    SharedTokenCache,
    TokenEndpoint,
    TokenProvider,
    open_session,
)
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.errors import SimpleStoreError
from simplestore_async.events import CacheFailed, Event, TokenReceived

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

TIMEOUT_SECONDS = 60


@attrs.frozen(kw_only=True)
class Job:
    """Instructions for the processes, sent as JSON."""

    scenario: str
    directory: str
    processes: int = 1
    policy: dict[str, Any] = attrs.field(factory=dict)
    retry: dict[str, Any] = attrs.field(factory=dict)
    lease_seconds: float = 45
    api_url: str = ""


async def start(
    scenario: str, *, directory: Path, environment: Mapping[str, str], **changes: Any
) -> asyncio.subprocess.Process:
    """Return the first process of a swarm that runs *scenario*, a function below, with *environment*."""
    job = Job(scenario=scenario, directory=str(directory), **changes)
    # Python 3.12 and later warn of forks in a process with threads.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-W", "ignore::DeprecationWarning", __file__),
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(attrs.asdict(job)).encode())
    process.stdin.close()
    return process


async def output_of(process: asyncio.subprocess.Process) -> tuple[str, str]:
    """Return standard output and standard error of all processes of a swarm that succeeds."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        stdout, stderr = await process.communicate()
    assert 0 == process.returncode, stderr
    return stdout.decode(), stderr.decode()


async def run(scenario: str, **job: Any) -> list[Any]:
    """Run a swarm to its end and return the result of each process, that of the first one last."""
    stdout, stderr = await output_of(await start(scenario, **job))
    assert "" == stderr
    results: list[Any] = json.loads(stdout)
    return results


# ---- scenarios


@attrs.define
class Recorder:
    """Events of a provider in a form that can be pickled."""

    failures: list[str] = attrs.field(factory=list)
    sources: list[str] = attrs.field(factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, CacheFailed):
            self.failures.append(f"{event.operation}: {event.problem}")
        if isinstance(event, TokenReceived):
            self.sources.append(event.source)


def build_provider(job: Job, recorder: Recorder) -> TokenProvider:
    cache: SharedTokenCache = FileTokenCache(job.directory)
    if "SIMPLESTORE_REDIS_URL" in os.environ:
        cache = RedisTokenCache.from_env(lease_seconds=job.lease_seconds)
    endpoint = TokenEndpoint(ClientCredentials.from_env(), policy=RetryPolicy(**job.retry))
    return TokenProvider(endpoint=endpoint, cache=cache, policy=RenewalPolicy(**job.policy), on_event=recorder)


async def get_token(job: Job) -> dict[str, Any]:
    """Get one token."""
    recorder = Recorder()
    async with build_provider(job, recorder) as provider:
        token = await provider.get_token()
    return {"token": token.value, **attrs.asdict(recorder)}


async def replace_rejected(job: Job) -> dict[str, Any]:
    """Get a token, reject it, and get another."""
    recorder = Recorder()
    async with build_provider(job, recorder) as provider:
        rejected = await provider.get_token()
        is_replaced = provider.invalidate(rejected)
        token = await provider.get_token()
    return {"rejected": rejected.value, "is_replaced": is_replaced, "token": token.value, **attrs.asdict(recorder)}


async def show_everything(job: Job) -> dict[str, Any]:
    """Send requests, some of which fail, and print everything that a log or debugger may show of them."""
    logging.basicConfig(level=logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    failures = 0
    async with build_provider(job, Recorder()) as provider, open_session(provider, base_url=job.api_url) as session:
        for number in range(12):
            try:
                async with session.post("/", json={"number": number}) as response:
                    sys.stderr.write(f"{response!r} {response.request_info!r} {provider!r} {session!r}\n")
                    response.raise_for_status()
            except (SimpleStoreError, aiohttp.ClientError) as error:
                failures += 1
                shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                sys.stderr.writelines(shown.format())
                await asyncio.sleep(0.3)  # the backoff after a failure
    return {"failures": failures}


class Inherited:
    """A provider that is used before the fork and then by all processes, each time in a new `asyncio.run()`."""

    def __init__(self, job: Job) -> None:
        self._provider = build_provider(job, Recorder())
        self._before = asyncio.run(self._provider.get_token())

    def __call__(self, _job: Job) -> dict[str, Any]:
        return asyncio.run(self._use())

    async def _use(self) -> dict[str, Any]:
        before = await self._provider.get_token()
        assert before.value == self._before.value
        assert self._provider.invalidate(before)
        after = await asyncio.gather(*(self._provider.get_token() for _ in range(10)))
        return {"before": before.value, "after": sorted({token.value for token in after})}


# ---- processes


def fork_all(job: Job, work: Callable[[Job], dict[str, Any]]) -> list[Any]:
    """Return the results of forked processes that all start at one moment."""
    go_reader, go_writer = os.pipe()
    reader, writer = os.pipe()
    children = []
    for _ in range(job.processes):
        child = os.fork()
        if not child:
            os.close(go_writer)
            os.read(go_reader, 1)  # ends when the first process closes the other end
            try:
                words = json.dumps(work(job))
            except BaseException:  # noqa: BLE001 - the test shows it
                words = json.dumps(traceback.format_exc())
            os.write(writer, f"{words}\n".encode())  # short enough for an atomic write
            os._exit(0)
        children.append(child)
    os.close(go_writer)
    os.close(writer)
    with open(reader) as lines:  # noqa: PTH123 - of a descriptor
        results = list(map(json.loads, lines))
    for child in children:
        os.waitpid(child, 0)
    return results


def perform(job: Job) -> Sequence[Any]:
    if job.scenario == "use_again":
        work = Inherited(job)
        return [*fork_all(job, work), work(job)]

    def run_scenario(job: Job) -> dict[str, Any]:
        result: dict[str, Any] = asyncio.run(globals()[job.scenario](job))
        return result

    return fork_all(job, run_scenario) if job.processes > 1 else [run_scenario(job)]


if __name__ == "__main__":
    logging.getLogger("simplestore_async").addHandler(logging.NullHandler())  # stderr must stay empty
    assert aiohttp.__version__  # imported before the fork
    sys.stdout.write(json.dumps(perform(Job(**json.load(sys.stdin)))))

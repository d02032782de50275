"""A batch from the command line. Rule: whatever ends it, its state is printed, and how to go on."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs
import click

from simplestore_async import open_session
from simplestore_async.batch import BatchPolicy, Journal, RequestFile, run_batch
from simplestore_async.errors import BatchFileError

from ._batch_display import Tally, open_display
from ._caches import open_directory
from ._exchange import RequestError, StatusError
from ._output import CommandError, print_json, print_problem, warn_of_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from ._batch_display import Display

__all__ = ["Job", "run_job"]

# Less than servers keep idle connections for: one that is closed while a request is on its way leaves it unknown.
_KEEP_ALIVE_SECONDS: Final = 3.0
_LAST_SECONDS: Final = 2.0
_LINES_TOLD: Final = 250_000


class StoppedError(CommandError):
    """Whoever read the results went away."""


class SigintError(CommandError):
    """Ctrl-C ended the batch."""

    exit_code = 128 + signal.SIGINT


class SigtermError(CommandError):
    """SIGTERM ended the batch."""

    exit_code = 128 + signal.SIGTERM


@attrs.frozen(kw_only=True)
class Job:
    """What the command was asked for."""

    file: str
    output: str | None
    journal: str
    concurrency: int
    rate: float | None
    timeout_seconds: float
    is_resumed: bool
    has_leave_to_resend: bool
    is_plain: bool
    is_cached: bool
    is_json: bool

    @property
    def policy(self) -> BatchPolicy:
        """The numbers, for the engine."""
        return BatchPolicy(
            concurrency=self.concurrency,
            rate=self.rate,
            timeout_seconds=self.timeout_seconds,
            has_leave_to_resend=self.has_leave_to_resend,
        )

    @property
    def resuming_command(self) -> str:
        """What to type to go on."""
        words = ["simplestore", "batch", self.file, "--resume"]
        if self.output:
            words += ["--output", self.output]
        if self.journal != f"{self.file}.journal":
            words += ["--journal", self.journal]
        return shlex.join(words)


def run_job(job: Job) -> None:
    """Check the file, send its requests, and print how that ended.

    Raises:
        BatchFileError: if lines are no requests; the first of them were printed.
        SimpleStoreError: if the batch could not begin, or could not go on.
        CommandError: if a signal, or a closed pipe, ended it.
        RequestError: if no complete answer came to some requests.
        StatusError: if some were answered, but not 2xx.
    """
    requests = _check(job)
    results = job.output or sys.stdout.buffer
    with Journal(job.journal, requests=requests, results=results, is_resumed=job.is_resumed) as journal:
        signals = _Signals(grace_seconds=job.policy.grace_seconds)
        try:
            _run(_send(job, requests, journal, signals))
        except BrokenPipeError:
            raise StoppedError("whoever read the results went away") from None
        finally:
            _print_summary(job, journal, is_stopped=signals.number != 0)
        if signals.number:
            raise signals.error
        _raise_for_outcomes(journal, requests.line_count)


def _run(sending: Coroutine[object, object, None]) -> None:
    """Run it as fast as may be: a batch may have nothing else to wait for."""
    gc.freeze()  # what was imported stays, and is not looked through again with every collection
    with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
        runner.run(sending)


def _find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def _check(job: Job) -> RequestFile:
    def tell(line: int) -> None:
        if not line % _LINES_TOLD:
            click.echo(f"{line} lines checked", err=True)

    try:
        return RequestFile.check(job.file, on_line=tell)
    except BatchFileError as error:
        for line, problem in error.problems:
            print_problem(problem, line=line, is_json=job.is_json)
        raise


async def _send(job: Job, requests: RequestFile, journal: Journal, signals: _Signals) -> None:
    tally = _tally(job, journal, requests.line_count)
    connector = aiohttp.TCPConnector(limit=job.concurrency, keepalive_timeout=_KEEP_ALIVE_SECONDS)
    cache = open_directory() if job.is_cached else None
    # On one terminal results and a bar would be drawn over each other.
    is_plain = job.is_plain or (job.output is None and sys.stdout.isatty())
    with open_display(tally, is_plain=is_plain) as display, signals.caught(display):
        showing = asyncio.create_task(display.run())
        try:
            async with open_session(cache=cache, on_event=warn_of_cache, connector=connector) as session:
                await run_batch(
                    requests,
                    session=session,
                    journal=journal,
                    policy=job.policy,
                    on_result=tally.count,
                    on_pause=tally.pause,
                    stop=signals.stop,
                )
        except asyncio.CancelledError:
            if not signals.number:
                raise
        finally:
            showing.cancel()
            await asyncio.wait({showing})


class _Signals:
    """SIGINT and SIGTERM: the first lets what is under way end, the second does not."""

    def __init__(self, *, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self.stop = asyncio.Event()
        self.number = 0

    @property
    def error(self) -> CommandError:
        """What the command ends with."""
        return SigtermError("ended by SIGTERM") if self.number == signal.SIGTERM else SigintError("ended by Ctrl-C")

    @contextmanager
    def caught(self, display: Display) -> Generator[None]:
        """Catch them as long as the batch runs, in the running task."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs

        def catch(number: int) -> None:
            if self.number:
                task.cancel()
                # A pipe that nobody reads may hold up the last results; the journal is whole without them.
                loop.call_later(_LAST_SECONDS, os._exit, 128 + self.number)
                return
            self.number = number
            self.stop.set()
            display.say(
                f"stopping: what is under way has {self._grace_seconds:g} s to end; once more, and it ends at once"
            )

        numbers = signal.SIGINT, signal.SIGTERM
        with suppress(NotImplementedError):  # Windows: Ctrl-C ends it at once
            for number in numbers:
                loop.add_signal_handler(number, catch, number)
        try:
            yield
        finally:
            with suppress(NotImplementedError):
                for number in numbers:
                    loop.remove_signal_handler(number)


def _tally(job: Job, journal: Journal, total: int) -> Tally:
    counts = journal.counts
    if job.has_leave_to_resend:
        counts["unknown"] = 0
    done = sum(counts.values())
    return Tally(total, done, done - counts["succeeded"])


def _print_summary(job: Job, journal: Journal, *, is_stopped: bool) -> None:
    """Print how the batch stands, and how to go on if something is left."""
    counts, remaining = journal.counts, journal.remaining
    if job.is_json:
        facts: dict[str, object] = {str(outcome): count for outcome, count in counts.items()}
        print_json(facts | {"remaining": remaining, "is_stopped": is_stopped})
        return
    parts = [f"{count} {outcome}" for outcome, count in counts.items()] + [f"{remaining} remaining"]
    # On stdout only where no results are.
    click.echo(", ".join(parts), err=job.output is None)
    if remaining:
        click.echo(f"go on with: {job.resuming_command}", err=job.output is None)
    elif counts["unknown"]:
        click.echo(f"send the unknown ones again with: {job.resuming_command} --resend-unknown", err=job.output is None)


def _raise_for_outcomes(journal: Journal, total: int) -> None:
    counts = journal.counts
    silent = counts["failed"] + counts["unknown"]
    if silent:
        raise RequestError(f"no complete answer came to {silent} of {total} requests")
    if counts["refused"]:
        raise StatusError(f"{counts['refused']} of {total} requests were answered with other than 2xx")

"""A batch from the command line. Rule: whatever ends it, its state is printed, and the exit code says what to do."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs
import click

from simplestore_async import ClientCredentials, open_session
from simplestore_async.batch import BatchDatabase, BatchPolicy, RequestFile, run_batch
from simplestore_async.errors import BatchFileError, ConfigurationError

from ._batch_display import Display
from ._caches import has_redis, open_cache
from ._exchange import RequestError, StatusError
from ._output import CommandError, as_command, is_closed_pipe, print_json, print_problem, show_duration, warn_of_cache

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator

    from simplestore_async.batch import BatchSummary

__all__ = ["Job", "check_job", "run_job"]

# Less than servers keep idle connections for: one that is closed under a request leaves the request unknown.
_KEEP_ALIVE_SECONDS: Final = 3.0
_LAST_SECONDS: Final = 5.0
# Windows has SIGBREAK: Ctrl-Break, or the end of the console.
_SIGNALS: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


class UnfinishedError(CommandError):
    """The batch is not finished; the same command continues it (EX_TEMPFAIL)."""

    exit_code = 75


class SigintError(CommandError):
    """Ctrl-C ended the batch."""

    exit_code = 128 + signal.SIGINT


@attrs.frozen(kw_only=True)
class Job:
    """Arguments of the command; *words* continue it."""

    file: str
    words: list[str]
    output: str | None
    database: str | None
    policy: BatchPolicy
    is_restarted: bool
    is_plain: bool
    is_cached: bool
    is_json: bool


def make_policy(options: dict[str, Any]) -> BatchPolicy:
    """Return the limits that *options* name, and take these out."""
    names = "concurrency", "rate", "stop_after", "idempotency_key", "response_headers"
    try:
        return BatchPolicy(
            timeout_seconds=options.pop("timeout"),
            resend=frozenset(int(word) if word.isdecimal() else word for word in options.pop("resend")),
            **{name: options.pop(name) for name in names},
        )
    except ConfigurationError as error:
        option = error.field.removesuffix("s").replace("_", "-")
        raise click.UsageError(f"--{option} {error.problem}") from None


def check_job(job: Job) -> None:
    """Validate the file, and send nothing."""
    with _open_file(job) as requests:
        requests.check()
        if job.is_json:
            print_json({"requests": requests.count})
        else:
            click.echo(f"{job.file}: {requests.count} valid requests")


def run_job(job: Job) -> None:
    """Check the file, send its requests, and print the state of the batch.

    Raises:
        BatchFileError: if lines are not requests; the first of them were printed.
        SimpleStoreError: if the batch could not begin, or could not continue.
        CommandError: if it did not finish, or not every request succeeded.
    """
    client_id = ClientCredentials.from_env().client_id
    with _open_file(job) as requests:
        # Standard input has no name of its own: its content names the database.
        default = f"stdin-{requests.sha256[:12]}.batch" if job.file == "-" else f"{job.file}.batch"
        with BatchDatabase(
            job.database or default,
            requests=requests,
            client_id=client_id,
            idempotency_key=job.policy.idempotency_key,
            results=job.output or sys.stdout.buffer,
            is_restarted=job.is_restarted,
        ) as database:
            _run_database(job, database)


@contextmanager
def _open_file(job: Job) -> Generator[RequestFile]:
    try:
        with RequestFile(job.file) as requests:
            yield requests
    except BatchFileError as error:
        if not error.problems:
            raise
        for line, problem in error.problems:
            print_problem(problem, line=line, is_json=job.is_json)
        raise BatchFileError(error.problem) from None


def _run_database(job: Job, database: BatchDatabase) -> None:
    display = Display(database, job.policy)
    signals = _Signals(display, grace_seconds=job.policy.grace_seconds)
    try:
        _run(_send(job, database, display, signals))
    except OSError as error:
        if not is_closed_pipe(error):
            raise
        raise UnfinishedError("output pipe closed") from None
    finally:
        summary = database.summary(is_stopped=bool(signals.number), elapsed_seconds=display.seconds, sent=display.sent)
        _print_summary(job, summary)
    _raise_for(summary, signals)


def _run(sending: Coroutine[object, object, None]) -> None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        factory = None
    else:
        factory = uvloop.new_event_loop
    gc.freeze()  # what was imported stays, and needs no look at each collection
    gc.set_threshold(20_000)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(sending)


async def _send(job: Job, database: BatchDatabase, display: Display, signals: _Signals) -> None:
    cache = open_cache() if job.is_cached or has_redis() else None
    connector = aiohttp.TCPConnector(limit=job.policy.concurrency, keepalive_timeout=_KEEP_ALIVE_SECONDS)
    # Results and a bar on one terminal would overwrite each other.
    is_plain = job.is_plain or (job.output is None and sys.stdout.isatty())
    try:
        async with (
            display.shown(is_plain=is_plain),
            signals.caught(),
            open_session(cache=cache, on_event=warn_of_cache, connector=connector, trust_env=True) as session,
        ):
            await run_batch(
                database.requests,
                session=session,
                database=database,
                policy=job.policy,
                on_result=display.count,
                on_pause=display.pause,
                stop=signals.stop,
            )
    except asyncio.CancelledError:
        if not signals.number:
            raise


class _Signals:
    """Signals that end a batch: the first lets requests in flight end, the second does not."""

    def __init__(self, display: Display, *, grace_seconds: float) -> None:
        self._display = display
        self._grace_seconds = grace_seconds
        self.stop = asyncio.Event()
        self.number = 0

    @asynccontextmanager
    async def caught(self) -> AsyncGenerator[None]:
        """Catch them meanwhile, for the running task."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        # Not by the loop's own method, which Windows does not have. `nohup` ignores SIGHUP.
        caught = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        earlier = {number: signal.signal(number, self._receive) for number in caught}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler or signal.SIG_DFL)  # None: one that Python did not install

    def _receive(self, number: int, _: object) -> None:
        self._loop.call_soon_threadsafe(self._note, number)

    def _note(self, number: int) -> None:
        if self.number and self._task:
            self._task.cancel()
            # A pipe that is not read may hold up the last results; the database has them.
            error = SigintError if self.number == signal.SIGINT else UnfinishedError
            self._loop.call_later(_LAST_SECONDS, os._exit, error.exit_code)
            return
        self.number = number
        self.stop.set()
        seconds = f"{self._grace_seconds:g} s"
        self._display.say(f"stopping; in-flight requests have {seconds} to finish (press Ctrl-C again to abort)")


def _print_summary(job: Job, summary: BatchSummary) -> None:
    """Print the state of the batch, and how to continue if something is left."""
    if job.is_json:
        facts: dict[str, Any] = {str(outcome): count for outcome, count in summary.counts.items()}
        facts |= {"remaining": summary.remaining, "is_stopped": summary.is_stopped, "statuses": summary.statuses}
        print_json(facts | {"elapsed_seconds": round(summary.elapsed_seconds, 3), "rate": round(summary.rate, 1)})
        return
    statuses = "".join(f"; HTTP {status}: {count}" for status, count in summary.statuses.items())
    lines = [
        ", ".join([f"{count} {outcome}" for outcome, count in summary.counts.items()])
        + f", {summary.remaining} remaining{statuses}",
        f"{summary.sent} in {show_duration(summary.elapsed_seconds)} ({summary.rate:.0f}/s)",
    ]
    if job.is_restarted and not summary.done:  # and the earlier batch is still there
        job.words.append("--restart")
    if summary.remaining:
        lines.append(f"continue with: {as_command(job.words)}")
    elif not summary.sent:
        lines[1:] = ["nothing was left to send"]
    if summary.counts["unknown"] and not summary.remaining:
        lines.append(f"resend the unknown ones with: {as_command(job.words)} --resend unknown")
    for line in lines:
        click.echo(line, err=job.output is None)  # on stdout only if no results are there


def _raise_for(summary: BatchSummary, signals: _Signals) -> None:
    """Raise what the command ends with."""
    if summary.remaining:
        if signals.number == signal.SIGINT:
            raise SigintError("ended by Ctrl-C")
        raise UnfinishedError(f"{summary.remaining} requests are not sent yet")
    total = summary.done
    silent = summary.counts["failed"] + summary.counts["unknown"]
    if silent:
        raise RequestError(f"{silent} of {total} requests failed or are unknown")
    if summary.counts["refused"]:
        raise StatusError(f"{summary.counts['refused']} of {total} requests were refused")

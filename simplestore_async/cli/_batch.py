"""`simplestore batch`. Rule: it is the engine of `simplestore_async.batch` and no other; here are its options."""

from __future__ import annotations

import click

from ._output import cache_option, json_option, timeout_option

__all__ = ["batch"]

_EPILOG = """\
\b
A line of FILE, with `json` (any value) or `body` (text), or neither, and `headers` if there are any:
  {"id": 1, "method": "PUT", "path": "orders/1", "json": {"state": "shipped"}, "headers": {"If-Match": "7"}}
\b
A line of results; body_format is json, text, base64 or null:
  {"id": 1, "line": 1, "outcome": "succeeded", "status": 200, "location": null, "body": {"id": 1}, "body_format":
  "json", "error_type": null, "error_message": null, "attempts": 1, "duration_seconds": 0.012}
\b
Outcomes:
  succeeded  the API answered 2xx
  refused    the API answered anything else
  failed     no complete answer came, to a request that only reads
  unknown    no complete answer came, to a request that may have changed something: look whether it did
\b
Exit codes:
  0    every request succeeded
  1    some failed or are unknown, or the batch could not go on
  2    wrong usage or settings, or lines that are no requests; nothing was sent
  22   every request was answered, but not all of them 2xx
  130  ended by Ctrl-C; 143: by SIGTERM
"""


@click.command(epilog=_EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write the results to FILE, each just once.")
@click.option(
    "--concurrency", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at once, at most."
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="How many a second, at most.")
@timeout_option("one attempt", default=300)
@click.option(
    "--journal", type=click.Path(), metavar="FILE", help="Where to note what was sent.  [default: FILE.journal]"
)
@click.option("--resume", "is_resumed", is_flag=True, help="Go on where an earlier run ended.")
@click.option(
    "--resend-unknown",
    "has_leave_to_resend",
    is_flag=True,
    help="Send again what may have been done already; only with --resume.",
)
@click.option("--plain", is_flag=True, help="Print lines instead of a progress bar, as when stderr is no terminal.")
@cache_option
@json_option
def batch(  # noqa: PLR0913 - an argument for each option
    *,
    file: str,
    output: str | None,
    concurrency: int,
    rate: float | None,
    timeout: float,
    journal: str | None,
    is_resumed: bool,
    has_leave_to_resend: bool,
    plain: bool,
    is_cached: bool,
    is_json: bool,
) -> None:
    """Send the requests of a file, one JSON object a line, and write a result for each while they arrive.

    Every line is checked before anything is sent. Results go to standard output, or to a file with --output.

    A journal notes each request before it is sent, and its result after. Whatever ends the command, Ctrl-C, a kill or
    a power cut, --resume sends the rest. A request that may have changed something is never sent twice by itself: if
    nobody knows whether it arrived, its outcome is `unknown`, and only --resend-unknown sends it again. The journal
    stays when all is done, so that the file is not sent again by mistake.

    When the API answers 429, or a Retry-After, all requests wait. Those that only read are sent up to four times.

    JSON, which needs --output: succeeded, refused, failed, unknown, remaining (without a result yet), is_stopped.
    """
    if file == "-":
        raise click.UsageError("FILE cannot be standard input, which --resume could not read again: write it to a file")
    if is_json and output is None:
        raise click.UsageError(
            "--json prints the summary on standard output: name a file for the results with --output"
        )
    if has_leave_to_resend and not is_resumed:
        raise click.UsageError("--resend-unknown is about an earlier run: give --resume, too")

    from ._batch_run import Job, run_job  # completion does without aiohttp

    run_job(
        Job(
            file=file,
            output=output,
            journal=journal or f"{file}.journal",
            concurrency=concurrency,
            rate=rate,
            timeout_seconds=timeout,
            is_resumed=is_resumed,
            has_leave_to_resend=has_leave_to_resend,
            is_plain=plain,
            is_cached=is_cached,
            is_json=is_json,
        )
    )

"""`simplestore batch`. Rule: it is the engine of `simplestore_async.batch`; here are its options."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.core import ParameterSource

from ._output import cache_option, json_option, timeout_option

__all__ = ["batch"]

# Not docstrings, which -OO removes.
_HELP = """\
Send the requests of a file, and write their results.

FILE has one JSON object per line, and may be compressed by gzip; - is standard input. Every line is checked before
anything is sent. Results go to standard output as they arrive, or to a file with --output; `simplestore batch
results FILE` prints all of them.

A database records each request before it is sent, and its result after. The same command continues after Ctrl-C, a
kill or a power cut; once finished, it sends nothing. A request that may have taken effect is never resent
automatically: its outcome is `unknown`, and --resend unknown resends it.

During an outage, or when the API responds 429 or Retry-After, all requests wait. Requests that only read are sent
up to four times.

JSON, which needs --output: succeeded, refused, failed, unknown, remaining, is_stopped, statuses, elapsed_seconds,
rate.
"""

_RESULTS_HELP = """\
Print the results of a batch that has ended or was interrupted.

The result of each request of FILE that has one, by line.
"""

_EPILOG = """\
\b
A line of FILE; json (any value), body (text) or body_file (a file's name),
headers and key are optional; shown on several lines:
  {"id": 1, "method": "PUT", "path": "orders/1",
  "json": {"state": "shipped"}, "headers": {"If-Match": "7"}}
\b
A line of results; body_format is json, text, base64 or null:
  {"id": 1, "line": 1, "method": "PUT", "path": "orders/1",
  "outcome": "succeeded", "status": 200, "headers": {}, "body": {"id": 1},
  "body_format": "json", "error_type": null, "error_message": null,
  "attempts": 1, "started_at": 1767225600.0, "duration_seconds": 0.012}
\b
Outcomes:
  succeeded  the API responded 2xx
  refused    the API responded otherwise
  failed     not sent, or no complete response to a request that only reads
  unknown    it may have taken effect: no complete response, or 500, 502, 504
\b
Exit codes:
  0    every request succeeded
  1    a person must look: requests failed or are unknown, or the database
       cannot be used
  2    wrong usage or settings
  22   every request has a result, and some were refused
  65   FILE is wrong; nothing was sent
  75   not finished; the same command continues
  130  ended by Ctrl-C; the same command continues
"""

_Context = click.Context


class _Batch(click.Command):
    """`batch FILE`, and `batch results FILE`; a file of that name is `./results`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: _Context | None = None, **extra: Any
    ) -> _Context:
        if args[:1] == ["results"]:
            return results.make_context(f"{info_name} results", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


_database_option = click.option(
    "--database", type=click.Path(), metavar="FILE", help="State of the batch.  [default: FILE.batch]"
)


@click.command(cls=_Batch, help=_HELP, epilog=_EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="File that holds the results of all runs.")
@click.option(
    "--concurrency", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Maximum concurrent requests."
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Maximum requests per second.")
@timeout_option("one attempt", default=300)
@_database_option
@click.option("--resume", is_flag=True, help="Continue an earlier run; the default.")
@click.option("--restart", is_flag=True, help="Forget an earlier run, and send everything.")
@click.option(
    "--resend",
    multiple=True,
    metavar="WHICH",
    help="Resend what was refused, failed or unknown, or had an HTTP status. Repeatable.",
)
@click.option("--stop-after", type=click.IntRange(min=1), metavar="N", help="Stop after N server failures in a row.")
@click.option(
    "--idempotency-key",
    metavar="NAME",
    help="Header that identifies each request to the API, which makes it safe to repeat.",
)
@click.option(
    "--response-header",
    "response_headers",
    multiple=True,
    metavar="NAME",
    help="Response header in the results, such as ETag. Repeatable.",
)
@click.option("--check", "is_check", is_flag=True, help="Validate FILE, and send nothing.")
@click.option("--plain", "is_plain", is_flag=True, help="Print lines instead of a progress bar.")
@cache_option
@json_option
def batch(*, output: str | None, is_json: bool, is_check: bool, resume: bool, restart: bool, **options: Any) -> None:
    if is_json and output is None and not is_check:
        raise click.UsageError("--json prints the summary on standard output: name a file for the results by --output")
    if restart and (resume or options["resend"]):
        raise click.UsageError("--restart sends everything: leave out --resume and --resend")

    from ._batch_run import Job, check_job, make_policy, run_job  # completion does without aiohttp

    words = _words_to_continue(click.get_current_context())
    job = Job(words=words, output=output, is_json=is_json, is_restarted=restart, policy=make_policy(options), **options)
    if is_check:
        check_job(job)
    else:
        run_job(job)


def _words_to_continue(context: _Context) -> list[str]:
    """Return the command that continues this one: the same, without what concerns an earlier run."""
    words = ["simplestore", "batch", context.params["file"]]
    for option in context.command.params[1:]:
        name = option.name or ""
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and name not in {"resume", "restart", "resend"}:
            value = context.params[name]
            for each in value if option.multiple else [value]:
                words += [option.opts[-1]] if value is True else [option.opts[-1], str(each)]
    return words


@click.command(name="results", help=_RESULTS_HELP)
@click.argument("file", type=click.Path(allow_dash=False))
@_database_option
def results(*, file: str, database: str | None) -> None:
    from simplestore_async.batch import read_results

    for line in read_results(database or f"{file}.batch"):
        sys.stdout.buffer.write(line)

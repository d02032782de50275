"""`simplestore token`. Rule: the token is printed only on request."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from ._output import as_line, cache_option, json_option, print_json, show_duration, show_instant, warn_of_cache

if TYPE_CHECKING:
    from simplestore_async import AccessToken

__all__ = ["token"]

_HELP = """\
Obtain an access token and print its details.

The credentials come from SIMPLESTORE_CLIENT_ID, and from SIMPLESTORE_CLIENT_SECRET or SIMPLESTORE_CLIENT_SECRET_FILE;
SIMPLESTORE_TOKEN_URL and SIMPLESTORE_SCOPE are optional. The request uses the proxy that the environment names.

Each run requests a new token, which proves the credentials, and stores it nowhere. With --cache runs share
one token until it nears its expiry.

\b
Pass the header to curl on standard input. In a command line every user of the
machine could read the token:
  simplestore token --header | curl -H @- https://api.example.com/orders

JSON: token_type, issued_at, expires_at, life_seconds (time left), scope (a list); with --show also value.
"""


@click.command(help=_HELP)
@click.option("--show", is_flag=True, help="Also print the token. Anyone who sees it has full access to the store.")
@click.option("--header", is_flag=True, help="Print only the Authorization header, for `curl -H @-`.")
@cache_option
@json_option
def token(*, show: bool, header: bool, is_cached: bool, is_json: bool) -> None:
    if header and (show or is_json):
        raise click.UsageError("--header prints nothing but the header; leave out --show and --json")
    got = asyncio.run(_get_token(is_cached=is_cached))
    if header:
        click.echo(f"Authorization: {got.authorization}")
    elif is_json:
        print_json(_facts(got, is_shown=show))
    else:
        for line in _lines(got, is_shown=show):
            click.echo(line)


async def _get_token(*, is_cached: bool) -> AccessToken:
    from simplestore_async import ClientCredentials, TokenEndpoint, TokenProvider  # completion needs no aiohttp

    from ._caches import open_cache

    cache = open_cache() if is_cached else None
    endpoint = TokenEndpoint(ClientCredentials.from_env(), trust_env=True)
    async with TokenProvider(endpoint=endpoint, cache=cache, on_event=warn_of_cache) as provider:
        return await provider.get_token()


def _facts(token: AccessToken, *, is_shown: bool) -> dict[str, object]:
    facts: dict[str, object] = {
        "token_type": token.token_type,
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "life_seconds": token.expires_at - time.time(),
        "scope": token.scope,
    }
    return facts | ({"value": token.value} if is_shown else {})


def _lines(token: AccessToken, *, is_shown: bool) -> list[str]:
    facts = {
        "type": token.token_type,
        "issued": show_instant(token.issued_at),
        "expires": show_instant(token.expires_at),
        "lifetime left": show_duration(token.expires_at - time.time()),
        "scope": " ".join(token.scope) or "(none named)",
    }
    if is_shown:
        facts["token"] = str(token.value)
    return [f"{name:<13}  {as_line(fact)}" for name, fact in facts.items()]

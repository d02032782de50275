"""Hostile text from servers and from the environment, in the output of each command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

from simplestore_async.sandbox import Response, Sandbox
from tests.support.command import Outcome, simplestore
from tests.support.platforms import needs_posix
from tests.support.terminals import on_terminal

if TYPE_CHECKING:
    from pathlib import Path

# Erase, bell, C1, right-to-left override, zero-width, line separator.
HOSTILE: Final = "a\x1b[2J\x07\x9b2J\u202e\u200b\u2028z"
SHOWN: Final = HOSTILE.encode("unicode-escape").decode()


def assert_harmless(text: str) -> None:
    assert "" == "".join(char for char in text if not char.isprintable() and char not in "\r\n\t")


async def run(*arguments: str, sandbox: Sandbox) -> Outcome:
    return await simplestore(*arguments, environment=sandbox.environment)


async def test_scope(sandbox: Sandbox) -> None:
    """The scope of a token, by `token` and `doctor`."""
    content = {"access_token": "token", "token_type": "Bearer", "expires_in": 60, "scope": HOSTILE}
    sandbox.token_endpoint.fail_for(60, Response(json=content))
    for arguments in ["token"], ["token", "--show"], ["doctor", "-v"], ["--debug", "token"]:
        outcome = await run(*arguments, sandbox=sandbox)
        assert_harmless(outcome.stdout + outcome.stderr)


async def test_error_description(sandbox: Sandbox) -> None:
    """The error description of a refusal, on stderr and in a traceback."""
    sandbox.fail_for(60, Response(400, json={"error": "x", "error_description": HOSTILE, "title": HOSTILE}))
    for arguments in ["token"], ["token", "--debug"], ["doctor"], ["request", "GET", "x"]:
        outcome = await run(*arguments, sandbox=sandbox)
        assert_harmless(outcome.stdout + outcome.stderr)


TERMINAL_BODIES = {
    "hostile": ({}, f"{HOSTILE}\nключ".encode() + b"\xff", f"{SHOWN}\r\nключ\\xff\r\n"),
    "empty": ({}, b"", ""),
    "ends with a line break": ({}, b"a\r\n", "a\r\n"),
    "cut in a character": ({}, b"\xc3", "\\xc3\r\n"),
    "charset": ({"Content-Type": "text/plain; charset=iso-8859-1"}, b"na\xefve", "naïve\r\n"),
    "charset of no text": ({"Content-Type": "text/plain; charset=zip"}, b"plain", "plain\r\n"),
}


@needs_posix
@pytest.mark.parametrize(("headers", "body", "shown"), TERMINAL_BODIES.values(), ids=TERMINAL_BODIES)
async def test_body(sandbox: Sandbox, headers: dict[str, str], body: bytes, shown: str) -> None:
    """A body on a terminal is decoded, escaped and ended with a line break; in a pipe it is copied byte by byte."""
    sandbox.api.respond("orders", Response(headers=headers, body=body))
    assert shown == await on_terminal("request", "GET", "orders", environment=sandbox.environment)
    piped = await run("request", "GET", "orders", sandbox=sandbox)
    assert body.decode(errors="surrogateescape") == piped.stdout


@needs_posix
async def test_head(sandbox: Sandbox) -> None:
    """Header values on a terminal."""

    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"X-Odd": "a\u202ez\x9b"})  # Response refuses them

    sandbox.api.respond("orders", handle)
    shown = await on_terminal("request", "GET", "orders", "-i", environment=sandbox.environment)
    assert_harmless(shown)
    assert "X-Odd: a" in shown


async def test_environment(sandbox: Sandbox, tmp_path: Path) -> None:
    """Values of the environment and names of files."""
    control = "\x1b[2J" if os.name == "posix" else ""  # no name on Windows has control characters
    directory = tmp_path / f"a{control}\u202ez"
    directory.mkdir()
    changes = {"SIMPLESTORE_CLIENT_ID": HOSTILE, "SIMPLESTORE_SCOPE": HOSTILE, "SIMPLESTORE_BASE_URL": HOSTILE}
    for arguments in (
        ["doctor", "-v", "--directory", str(directory)],
        ["cache", "list", "--directory", str(directory)],
        ["token"],
        ["request", "GET", "x", "--data", str(directory / "gone")],
    ):
        outcome = await simplestore(*arguments, environment=sandbox.environment | changes)
        assert_harmless(outcome.stdout + outcome.stderr)

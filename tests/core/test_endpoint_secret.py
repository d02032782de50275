"""`TokenEndpoint`: secrets from a file or a callable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from simplestore_async import ClientCredentials, RetryPolicy, SecretFile, TokenEndpoint
from simplestore_async.errors import InvalidClientError, TokenEndpointError, TokenError, TokenTimeoutError
from simplestore_async.sandbox import Response, Status
from tests.support.platforms import needs_posix_files
from tests.support.production import run
from tests.support.servers import SECRET
from tests.support.token_requests import failure
from tests.support.tracebacks import everything_shown
from tests.support.virtual_wire import Reply, VirtualEndpoint
from tests.support.wire_faults import shows_secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simplestore_async.sandbox import Fault, Sandbox
    from tests.support.virtual_loop import VirtualLoop

INVALID_CLIENT = Response(400, json={"error": "invalid_client", "title": "Unknown client"})


def mount(directory: Path, secret: str) -> Path:
    """Write *secret* below *directory* as Kubernetes does, by swapping a symlink; return the secret's path."""
    version_directory = directory / f"..{secret}"
    version_directory.mkdir()
    (version_directory / "client_secret").write_text(f"{secret}\n")
    (directory / "..data_tmp").symlink_to(version_directory.name)
    (directory / "..data_tmp").rename(directory / "..data")
    path = directory / "client_secret"
    if not path.is_symlink():
        path.symlink_to("..data/client_secret")
    return path


class Secrets:
    """A callable secret: each call returns or raises the next value, and the last one is repeated."""

    def __init__(self, *secrets: str | Exception) -> None:
        self.calls = 0
        self._secrets = secrets

    def __call__(self) -> str:
        secret = self._secrets[min(self.calls, len(self._secrets) - 1)]
        self.calls += 1
        if isinstance(secret, Exception):
            raise secret
        return secret


def endpoint_with(sandbox: Sandbox, secret: Callable[[], Any], **policy: Any) -> TokenEndpoint:
    credentials = attrs.evolve(sandbox.credentials, client_secret=secret)
    return TokenEndpoint(credentials, policy=RetryPolicy(**{"retry_seconds": 0.001} | policy))


def statuses(sandbox: Sandbox) -> list[int | None]:
    return [request.status for request in sandbox.requests]


def rotate(sandbox: Sandbox, secret: str) -> None:
    sandbox.rotate_secret("sandbox-client", new_secret=secret)


@needs_posix_files
async def test_rotated_during_a_request(sandbox: Sandbox, tmp_path: Path) -> None:
    """A replaced secret file is used at once after invalid_client, and else by the next request."""
    endpoint = endpoint_with(sandbox, SecretFile(mount(tmp_path, "first")))
    rotate(sandbox, "second")
    with sandbox.token_endpoint.hold() as held:
        request = asyncio.create_task(endpoint.request_token())
        await held.wait_for_requests()
        mount(tmp_path, "second")
    await request
    mount(tmp_path, "third")
    rotate(sandbox, "third")
    await endpoint.request_token()

    assert [400, 200, 200] == statuses(sandbox)


@pytest.mark.parametrize(
    ("secrets", "faults", "expected", "calls"),
    [
        (["same"], [], [400], 2),
        (["first", SECRET], [], [400, 200], 2),
        (["first", "second", SECRET], [], [400, 400], 2),
        (["first", SECRET], [INVALID_CLIENT, Status(503)], [400, 503], 2),
        (["first", "second"], [Status(503)] * 3, [503] * 3, 1),
        (["first", SECRET], [Status(503)], [503, 400, 200], 2),
    ],
    ids=["same", "changed", "in vain", "one attempt", "outage", "after an outage"],
)
async def test_read_again(
    sandbox: Sandbox, secrets: list[str], faults: list[Fault], expected: list[int], calls: int
) -> None:
    """After invalid_client, and no other failure, the secret is read again and tried once if it has changed."""
    for fault in faults:
        sandbox.fail_next(1, fault)
    secret = Secrets(*secrets)
    request = endpoint_with(sandbox, secret).request_token()
    if expected[-1] == 200:
        await request
    else:
        with pytest.raises(InvalidClientError if expected[-1] == 400 else TokenEndpointError):
            await request

    assert (expected, calls) == (statuses(sandbox), secret.calls)


async def test_literal(sandbox: Sandbox) -> None:
    """A literal secret is not sent again after invalid_client."""
    endpoint = TokenEndpoint(sandbox.credentials)
    rotate(sandbox, "second")
    error = await failure(endpoint)

    assert InvalidClientError is type(error)
    assert [400] == statuses(sandbox)


@pytest.mark.parametrize(
    ("before", "raised"), [([], TimeoutError()), (["first"], ValueError(SECRET))], ids=["at first", "again"]
)
async def test_raises(sandbox: Sandbox, before: list[str], raised: Exception) -> None:
    """A callable that raises at its first or second call causes a TokenError without the exception's text."""
    error = await failure(endpoint_with(sandbox, Secrets(*before, raised)))

    assert TokenError is type(error)
    assert f"the client secret cannot be read: the callable raised {type(raised).__name__}" == str(error)
    assert not shows_secret(everything_shown(error))
    assert len(before) == len(sandbox.requests)


@pytest.mark.parametrize("before", [[], ["first"]], ids=["at first", "again"])
def test_slow(before: list[str]) -> None:
    """A callable that hangs at its first or second call causes a TokenTimeoutError when the budget ends."""
    remaining = list(before)
    posts: list[float] = []

    async def read() -> str:
        return remaining.pop() if remaining else await asyncio.Future()

    async def simulate(loop: VirtualLoop) -> float:
        began_at = loop.time()

        async def refuse() -> Reply:
            posts.append(loop.time())
            return Reply(INVALID_CLIENT.status, INVALID_CLIENT.body)

        credentials = ClientCredentials(client_id="app", client_secret=read)
        endpoint = VirtualEndpoint(credentials, policy=RetryPolicy(budget_seconds=10), answer=refuse)
        with pytest.raises(TokenTimeoutError, match="client_secret did not return within the renewal's budget"):
            await endpoint.request_token()
        return loop.time() - began_at

    assert 10 == run(simulate, seed=0)
    assert len(before) == len(posts)

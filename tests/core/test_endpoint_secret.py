"""`TokenEndpoint`: secrets that come from a file or a callable."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from simplestore_async import ClientCredentials, RetryPolicy, SecretFile, TokenEndpoint
from simplestore_async.errors import (
    InvalidClientError,
    TokenEndpointError,
    TokenError,
    TokenTimeoutError,
)
from tests.support.platforms import needs_posix_files
from tests.support.production import run
from tests.support.servers import SECRET, TokenServer
from tests.support.token_requests import (
    failure,
)
from tests.support.virtual_wire import Reply, VirtualEndpoint
from tests.support.wire_faults import (
    everything_shown,
    shows_secret,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.virtual_loop import VirtualLoop


def mount(directory: Path, secret: str) -> Path:
    """Put *secret* into *directory* as Kubernetes does: swap a symlink to a directory; return the secret's path."""
    version_directory = directory / f"..{secret}"
    version_directory.mkdir()
    (version_directory / "client_secret").write_text(f"{secret}\n")
    (directory / "..data_tmp").symlink_to(version_directory.name)
    (directory / "..data_tmp").rename(directory / "..data")
    path = directory / "client_secret"
    if not path.is_symlink():
        path.symlink_to("..data/client_secret")
    return path


INVALID_CLIENT = {"error": "invalid_client", "title": "Unknown client"}


class Secrets:
    """A secret that changes: each call returns the next, and the last one is repeated. An exception is raised."""

    def __init__(self, *secrets: str | Exception) -> None:
        self.calls = 0
        self._secrets = secrets

    def __call__(self) -> str:
        secret = self._secrets[min(self.calls, len(self._secrets) - 1)]
        self.calls += 1
        if isinstance(secret, Exception):
            raise secret
        return secret


class TestSecret:
    def endpoint(self, server: TokenServer, secret: Callable[[], Any] | str, **policy: Any) -> TokenEndpoint:
        policy = {"retry_seconds": 0.001} | policy
        return server.endpoint(credentials=server.credentials(client_secret=secret), policy=RetryPolicy(**policy))

    def sent(self, server: TokenServer) -> list[str]:
        return [request.form["client_secret"] for request in server.requests]

    def refuse(self, server: TokenServer, count: int = 1, status: int = 400) -> None:
        server.replies = [web.json_response(INVALID_CLIENT, status=status) for _ in range(count)]

    @needs_posix_files
    async def test_rotated_file(self, token_server: TokenServer, tmp_path: Path) -> None:
        """A secret file that was swapped is taken up by the next request."""
        endpoint = self.endpoint(token_server, SecretFile(mount(tmp_path, "first")))
        await endpoint.request_token()
        mount(tmp_path, "second")
        await endpoint.request_token()

        assert ["first", "second"] == self.sent(token_server)

    @needs_posix_files
    @pytest.mark.parametrize("status", [400, 401])
    async def test_rotated_in_time(self, token_server: TokenServer, tmp_path: Path, status: int) -> None:
        """A secret file that was swapped meanwhile is taken up at once after invalid_client."""
        path = mount(tmp_path, "first")
        self.refuse(token_server, status=status)
        token_server.gate.clear()
        request = asyncio.create_task(self.endpoint(token_server, SecretFile(path)).request_token())
        await token_server.arrived.wait()
        mount(tmp_path, "second")
        token_server.gate.set()

        assert "canary-token-1" == (await request).value
        assert ["first", "second"] == self.sent(token_server)

    async def test_unchanged(self, token_server: TokenServer) -> None:
        """A secret that is the same when asked again is not sent again: the refusal is raised."""
        secrets = Secrets("same")
        self.refuse(token_server)
        error = await failure(self.endpoint(token_server, secrets))

        assert InvalidClientError is type(error)
        assert ("Unknown client", 400) == (error.title, error.status)
        assert (2, ["same"]) == (secrets.calls, self.sent(token_server))

    @pytest.mark.parametrize("replies", [2, 3])
    async def test_changed_in_vain(self, token_server: TokenServer, replies: int) -> None:
        """A changed secret is tried once; if it is refused too, that is the error."""
        secrets = Secrets("first", "second", "third")
        self.refuse(token_server, replies)
        error = await failure(self.endpoint(token_server, secrets))

        assert InvalidClientError is type(error)
        assert (2, ["first", "second"]) == (secrets.calls, self.sent(token_server))

    async def test_changed_secret_gets_one_attempt(self, token_server: TokenServer) -> None:
        """A changed secret is tried once, also if that attempt fails in a way that would otherwise be tried again."""
        token_server.replies = [web.json_response(INVALID_CLIENT, status=400), 503]
        error = await failure(self.endpoint(token_server, Secrets("first", "second")))

        assert isinstance(error, TokenEndpointError)
        assert 503 == error.status
        assert ["first", "second"] == self.sent(token_server)

    async def test_literal(self, token_server: TokenServer) -> None:
        """A literal secret is not sent twice."""
        self.refuse(token_server, 2)
        error = await failure(self.endpoint(token_server, "literal"))

        assert InvalidClientError is type(error)
        assert ["literal"] == self.sent(token_server)

    @pytest.mark.parametrize("reply", [503, {}])
    async def test_passing_failure(self, token_server: TokenServer, reply: Any) -> None:
        """After a failure not caused by the secret it is not read again; all attempts use one."""
        secrets = Secrets("first", "second")
        token_server.replies = [reply] * 3
        error = await failure(self.endpoint(token_server, secrets))

        assert error.retryable
        assert (1, ["first"] * 3) == (secrets.calls, self.sent(token_server))

    async def test_refused_after_a_failure(self, token_server: TokenServer) -> None:
        """A refusal that follows upon a passing failure asks for the secret again as well."""
        secrets = Secrets("first", "second")
        token_server.replies = [503, web.json_response(INVALID_CLIENT, status=400)]
        token = await self.endpoint(token_server, secrets).request_token()

        assert "canary-token-1" == token.value
        assert ["first", "first", "second"] == self.sent(token_server)

    async def test_asynchronous(self, token_server: TokenServer) -> None:
        """An async callable is awaited."""

        async def read() -> str:
            return "async"

        await self.endpoint(token_server, read).request_token()

        assert ["async"] == self.sent(token_server)

    @pytest.mark.parametrize("before", [[], ["first"]])
    async def test_raises(self, token_server: TokenServer, before: list[str]) -> None:
        """A callable that raises, at first or on a second reading, is a TokenError without the callable's text."""
        self.refuse(token_server)
        secrets = Secrets(*before, ValueError(SECRET))
        error = await failure(self.endpoint(token_server, secrets))

        assert TokenError is type(error)
        assert "the client secret cannot be read: the callable raised ValueError" == str(error)
        assert not shows_secret(everything_shown(error))
        assert before == self.sent(token_server)

    @pytest.mark.parametrize("before", [[], ["first"]])
    def test_slow(self, before: list[str]) -> None:
        """An async callable that never returns, at first or when asked again, is a TokenTimeoutError in the budget."""
        expected = "token request failed: client_secret did not return within the renewal's budget"
        answers = list(before)
        posts: list[float] = []

        async def read() -> str:
            return answers.pop() if answers else await asyncio.Future()

        async def simulate(loop: VirtualLoop) -> float:
            began_at = loop.time()

            async def refuse() -> Reply:
                posts.append(loop.time())
                return Reply(401, json.dumps(INVALID_CLIENT).encode())

            credentials = ClientCredentials(client_id="app", client_secret=read)
            policy = RetryPolicy(budget_seconds=10)
            with pytest.raises(TokenTimeoutError) as caught:
                await VirtualEndpoint(credentials, policy=policy, answer=refuse).request_token()
            assert expected == str(caught.value)
            return loop.time() - began_at

        assert 10 == run(simulate, seed=0)
        assert len(before) == len(posts)

    async def test_blocking(self, token_server: TokenServer) -> None:
        """A plain callable that blocks is off the loop, and a TokenTimeoutError in the budget."""
        returns = threading.Event()

        def read() -> str:
            returns.wait(5)
            return "late"

        try:
            error = await failure(self.endpoint(token_server, read, budget_seconds=0.05))
        finally:
            returns.set()

        assert TokenTimeoutError is type(error)
        assert [] == self.sent(token_server)

    async def test_timeout_of_its_own(self, token_server: TokenServer) -> None:
        """A callable's own TimeoutError is not taken for the end of the budget."""
        error = await failure(self.endpoint(token_server, Secrets(TimeoutError())))

        assert TokenError is type(error)
        assert str(error).endswith("the callable raised TimeoutError")

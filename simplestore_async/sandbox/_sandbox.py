"""The sandbox as a test sees it. Rule: it only passes on; what it knows is in its parts."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from simplestore_async._core.clock import default_clock
from simplestore_async._core.credentials import ClientCredentials
from simplestore_async._core.redaction import conceal
from simplestore_async.errors import ConfigurationError

from ._endpoint import UNAVAILABLE, SandboxEndpoint
from ._faults import RejectedToken
from ._server import API_PATH, TOKEN_PATH, Server
from ._thread import ServerThread

if TYPE_CHECKING:
    from types import TracebackType

    from simplestore_async._core.clock import Clock

    from ._faults import Fault
    from ._ledger import Counters
    from ._traffic import RecordedRequest

__all__ = ["Sandbox"]


class Sandbox:
    """Run a local SimpleStore: the token endpoint exactly as documented, and an API that echoes authorised requests.

    `async with` runs it on your event loop; a plain `with` on one in a thread of its own, for programs that run event
    loops themselves. It listens on 127.0.0.1, on a port of its own, so any number may run at once; leaving the context
    drops open connections and leaves nothing behind. A sandbox may be entered again: its counters, clients and tokens
    live on, its port changes. Its methods may be called from any thread.

    The API answers every method below `base_url`: 200 and JSON with `method`, `path`, `query` and `headers` (a repeated
    name of the query gives a list), the token masked, `body` (text, or base64 if it is not UTF-8) and `is_base64`;
    without a valid token 401 with the challenge of RFC 6750 3. The token endpoint also accepts `client_secret_basic`.

    A test makes things go wrong, lets its program run, and asserts what the sandbox saw::

        async with Sandbox() as sandbox:
            sandbox.fail_next(1, Reset())        # the token endpoint; or Status(429, retry_after=2), …
            sandbox.api.fail_next(1, Late(0.1))  # the API takes the same faults
            async with open_session(sandbox.credentials, base_url=sandbox.base_url) as session:
                async with session.get("orders/42") as response:  # here your program comes in
                    assert response.status == 200
            assert [each.status for each in sandbox.requests] == [None, 200, 200]
            assert sandbox.counters.tokens_issued == 1

    A program that takes its settings from the environment gets `sandbox.environment`.

    Args:
        client_id: the client that may get tokens, whose are `credentials` and `environment`.
        client_secret: its secret.
        clients: further clients, each with its secret.
        lifetime_seconds: how long a token lives, sent as `expires_in`; a whole number, because that is. May be changed
            at any time, for the tokens that follow.
        latency_seconds: how late the token endpoint's replies are sent, in real time. What they say is decided when the
            request arrives, so a slow token may be revoked before it is delivered. May be changed at any time.
        port: the TCP port to listen on; 0 for any that is free.
        clock: decides when tokens expire, faults end and rate limits pass; the machine's clock if None.

    Raises:
        ConfigurationError: names the argument, what was wrong and what to set; on entering, if the port is taken.
    """

    def __init__(  # noqa: PLR0913 - each with its default
        self,
        *,
        client_id: str = "sandbox-client",
        client_secret: str = "sandbox-secret",  # noqa: S107 - it opens nothing but this sandbox
        clients: Mapping[str, str] = MappingProxyType({}),
        lifetime_seconds: int = 3600,
        latency_seconds: float = 0.0,
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        client_secret = conceal(client_secret)
        self._client_id = client_id
        self._server = Server(
            clock=default_clock() if clock is None else clock,
            port=port,
            lifetime_seconds=lifetime_seconds,
            latency_seconds=latency_seconds,
        )
        self._thread: ServerThread | None = None
        self._token_endpoint = SandboxEndpoint(self._server.token_traffic)
        self._api = SandboxEndpoint(self._server.api_traffic)
        self.add_client(client_id, client_secret=client_secret)
        if not isinstance(clients, Mapping):
            raise ConfigurationError("clients must map client ids to their secrets")
        for further_id, further_secret in clients.items():
            self.add_client(further_id, client_secret=further_secret)

    def __repr__(self) -> str:
        return f"<Sandbox {self._server.root or 'not running'}, client_id={self._client_id!r}>"

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._server.stop()

    def __enter__(self) -> Self:
        thread = ServerThread(self)
        thread.start()
        self._thread = thread
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.stop()

    @property
    def _root(self) -> str:
        root = self._server.root
        if root is None:
            raise RuntimeError(
                "The Sandbox is not running: use it inside `async with Sandbox() as sandbox:`, or a plain `with`."
            )
        return root

    @property
    def token_url(self) -> str:
        """The token endpoint. Raises `RuntimeError` unless the sandbox runs, as all of the addresses do."""
        return self._root + TOKEN_PATH

    @property
    def base_url(self) -> str:
        """The root of the API, with a slash at its end."""
        return self._root + API_PATH

    @property
    def credentials(self) -> ClientCredentials:
        """The credentials that the sandbox accepts, for its token endpoint: the first client's, its newest secret."""
        return self.credentials_of(self._client_id)

    def credentials_of(self, client_id: str) -> ClientCredentials:
        """Return the same for any of the clients. Raises `ConfigurationError` if there is no such client."""
        client_secret = self._server.clients.newest_secret_of(client_id)
        return ClientCredentials(client_id=client_id, client_secret=client_secret, token_url=self.token_url)

    @property
    def environment(self) -> dict[str, str]:
        """`credentials` as environment variables, and the base URL: what `from_env()` and `open_session()` read."""
        return {
            "SIMPLESTORE_CLIENT_ID": self._client_id,
            "SIMPLESTORE_CLIENT_SECRET": self._server.clients.newest_secret_of(self._client_id),
            "SIMPLESTORE_TOKEN_URL": self.token_url,
            "SIMPLESTORE_BASE_URL": self.base_url,
        }

    @property
    def lifetime_seconds(self) -> int:
        """How long the tokens that follow live."""
        return self._server.lifetime_seconds

    @lifetime_seconds.setter
    def lifetime_seconds(self, value: int) -> None:
        self._server.lifetime_seconds = value

    @property
    def latency_seconds(self) -> float:
        """How late the token endpoint's replies are sent."""
        return self._server.latency_seconds

    @latency_seconds.setter
    def latency_seconds(self, value: float) -> None:
        self._server.latency_seconds = value

    @property
    def token_endpoint(self) -> SandboxEndpoint:
        """What can be scripted for the token endpoint, and what it saw."""
        return self._token_endpoint

    @property
    def api(self) -> SandboxEndpoint:
        """What can be scripted for the API, and what it saw."""
        return self._api

    @property
    def counters(self) -> Counters:
        """What the server saw so far, as a value of its own."""
        return self._server.ledger.counters

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """What both endpoints saw, oldest first: the newest 10 000 requests of each."""
        return tuple(sorted((*self._token_endpoint.requests, *self._api.requests), key=attrgetter("number")))

    def clear_requests(self) -> None:
        """Forget the requests so far; numbers and counters go on."""
        self._token_endpoint.clear_requests()
        self._api.clear_requests()

    def fail_next(self, requests: int, fault: Fault = UNAVAILABLE) -> None:
        """Let the next token requests meet a fault: short for `token_endpoint.fail_next()`."""
        self._token_endpoint.fail_next(requests, fault)

    def fail_for(self, seconds: float, fault: Fault = UNAVAILABLE) -> None:
        """Let every token request meet a fault for a while: short for `token_endpoint.fail_for()`."""
        self._token_endpoint.fail_for(seconds, fault)

    def reject_next(self, requests: int) -> None:
        """Let the API reject the tokens of its next requests, valid or not: short for a fault, `RejectedToken()`."""
        self._api.fail_next(requests, RejectedToken())

    def revoke(self, token_value: str) -> bool:
        """Revoke one token, and return whether it was valid; the API answers 401 to it from now on.

        Raises:
            ConfigurationError: if it is no string: pass the `value` of an `AccessToken`.
        """
        if not isinstance(token_value, str):
            raise ConfigurationError("token_value must be a string: pass the value of an AccessToken")
        return self._server.ledger.revoke(token_value)

    def revoke_all(self, client_id: str | None = None) -> None:
        """Revoke every token issued so far, or those of one client; the API answers 401 to them from now on.

        Raises:
            ConfigurationError: if there is no such client.
        """
        if client_id is not None:
            self._server.clients.check_known(client_id)
        self._server.ledger.revoke_all(client_id)

    def add_client(self, client_id: str, *, client_secret: str) -> None:
        """Let a further client get tokens.

        Raises:
            ConfigurationError: if id or secret cannot be one, or the client is there already.
        """
        self._server.clients.add(client_id, client_secret=conceal(client_secret))

    def rotate_secret(self, client_id: str, *, new_secret: str, keep_old: bool = False) -> None:
        """Give a client a new secret. Its tokens live on.

        Args:
            client_id: which client.
            new_secret: what it is to use from now on, and what `credentials_of()` gives.
            keep_old: accept the secrets before it, too, until `drop_old_secrets()`.

        Raises:
            ConfigurationError: if there is no such client, or that cannot be a secret.
        """
        self._server.clients.rotate(client_id, new_secret=conceal(new_secret), keep_old=keep_old)

    def drop_old_secrets(self, client_id: str) -> None:
        """Refuse every secret of a client but its newest. Raises `ConfigurationError` if there is no such client."""
        self._server.clients.drop_old(client_id)

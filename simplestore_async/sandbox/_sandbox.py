"""The sandbox's public class."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from simplestore_async._core.clock import default_clock
from simplestore_async._core.credentials import ClientCredentials
from simplestore_async._core.redaction import conceal
from simplestore_async._core.validation import check_type

from ._faults import UNAVAILABLE, RejectedToken
from ._server import API_PATH, TOKEN_PATH, Server, ServerThread

if TYPE_CHECKING:
    import ssl

    from simplestore_async._core.clock import Clock

    from ._endpoint import SandboxApi, SandboxEndpoint
    from ._faults import Fault
    from ._recorded import RecordedRequest
    from ._state import Counters

__all__ = ["Sandbox"]


class Sandbox:
    """A local SimpleStore: the token endpoint as documented, and an API that echoes authorised requests.

    `async with` runs it on the current event loop; a plain `with` runs it in its own thread, for programs that run
    event loops themselves. It listens on 127.0.0.1, on a free port, so any number may run at once. Leaving the
    context drops open connections. A sandbox may be entered again: counters, clients and tokens persist, the port
    changes. All methods may be called from any thread.

    The API responds to every method below `base_url`: 200 and JSON with `method`, `path`, `query` and `headers` (a
    repeated query name gives a list), the token masked, `body` (text, or base64 if it is not UTF-8) and `is_base64`;
    without a valid token 401 with the challenge of RFC 6750 §3. `sandbox.api.respond()` sets other responses. The token
    endpoint also accepts `client_secret_basic`.

    A test scripts faults, runs its program, and checks the sandbox's log::

        async with Sandbox() as sandbox:
            sandbox.fail_next(1, Reset())        # the token endpoint; or Status(429, retry_after=2), …
            sandbox.api.fail_next(1, Late(0.1))  # the API takes the same faults
            async with open_session(sandbox.credentials, base_url=sandbox.base_url) as session:
                async with session.get("orders/42") as response:  # the program under test
                    assert response.status == 200
            assert [each.status for each in sandbox.requests] == [None, 200, 200]
            assert sandbox.counters.tokens_issued == 1

    A program that reads its settings from the environment gets `sandbox.environment`.

    Args:
        client_id: the first client, that of `credentials` and `environment`.
        client_secret: its secret.
        clients: further clients, each with its secret.
        lifetime_seconds: lifetime of tokens, sent as `expires_in`; a whole number. May be changed at any time, for
            later tokens.
        latency_seconds: delay of the token endpoint's responses, in real time. They are decided on arrival, so a slow
            token may be revoked before it is delivered. May be changed at any time.
        port: the TCP port to listen on; 0 for any free one.
        clock: the clock for expiry, faults and rate limits; the system clock if None.
        ssl_context: serve https with this server context; plain http if None.

    Raises:
        ConfigurationError: if an argument is wrong; on entering, if the port is in use.
    """

    def __init__(  # noqa: PLR0913 - each with its default
        self,
        *,
        client_id: str = "sandbox-client",
        client_secret: str = "sandbox-secret",  # noqa: S107 - a secret of this sandbox only
        clients: Mapping[str, str] = MappingProxyType({}),
        lifetime_seconds: int = 3600,
        latency_seconds: float = 0.0,
        port: int = 0,
        clock: Clock | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        client_secret = conceal(client_secret)
        self._client_id = client_id
        self._server = Server(
            clock=default_clock() if clock is None else clock,
            port=port,
            lifetime_seconds=lifetime_seconds,
            latency_seconds=latency_seconds,
            ssl_context=ssl_context,
        )
        self._thread: ServerThread | None = None
        self.add_client(client_id, client_secret=client_secret)
        check_type("clients", clients, Mapping, expected="a mapping of client ids to secrets")
        for further_id, further_secret in clients.items():
            self.add_client(further_id, client_secret=further_secret)

    def __repr__(self) -> str:
        return f"<Sandbox {self._server.root or 'not running'}, client_id={self._client_id!r}>"

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self._server.stop()

    def __enter__(self) -> Self:
        thread = ServerThread(self)
        thread.start()
        self._thread = thread
        return self

    def __exit__(self, *_exc_info: object) -> None:
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.stop()

    @property
    def _root(self) -> str:
        root = self._server.root
        if root is None:
            raise RuntimeError(
                "the Sandbox is not running; use it inside `async with Sandbox() as sandbox:`, or a plain `with`"
            )
        return root

    @property
    def token_url(self) -> str:
        """The token endpoint's URL. All URLs raise `RuntimeError` unless the sandbox runs."""
        return self._root + TOKEN_PATH

    @property
    def base_url(self) -> str:
        """The root of the API, with a trailing slash."""
        return self._root + API_PATH

    @property
    def credentials(self) -> ClientCredentials:
        """Credentials of the first client, with its newest secret."""
        return self.credentials_of(self._client_id)

    def credentials_of(self, client_id: str) -> ClientCredentials:
        """Return the credentials of any client. Raises `ConfigurationError` if it is unknown."""
        client_secret = self._server.clients.newest_secret_of(client_id)
        return ClientCredentials(client_id=client_id, client_secret=client_secret, token_url=self.token_url)

    @property
    def environment(self) -> dict[str, str]:
        """Credentials and base URL as the environment variables that `from_env()` and `open_session()` read."""
        return {
            "SIMPLESTORE_CLIENT_ID": self._client_id,
            "SIMPLESTORE_CLIENT_SECRET": self._server.clients.newest_secret_of(self._client_id),
            "SIMPLESTORE_TOKEN_URL": self.token_url,
            "SIMPLESTORE_BASE_URL": self.base_url,
        }

    @property
    def lifetime_seconds(self) -> int:
        """Lifetime of later tokens."""
        return self._server.lifetime_seconds

    @lifetime_seconds.setter
    def lifetime_seconds(self, value: int) -> None:
        self._server.lifetime_seconds = value

    @property
    def latency_seconds(self) -> float:
        """Delay of the token endpoint's responses."""
        return self._server.latency_seconds

    @latency_seconds.setter
    def latency_seconds(self, value: float) -> None:
        self._server.latency_seconds = value

    @property
    def token_endpoint(self) -> SandboxEndpoint:
        """Script and log of the token endpoint."""
        return self._server.token_endpoint

    @property
    def api(self) -> SandboxApi:
        """Script, canned responses and log of the API."""
        return self._server.api

    @property
    def counters(self) -> Counters:
        """The counters, as a snapshot."""
        return self._server.counters

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The newest 10 000 requests of each endpoint, oldest first."""
        return tuple(sorted((*self.token_endpoint.requests, *self.api.requests), key=attrgetter("number")))

    def clear_requests(self) -> None:
        """Empty both logs; numbering and counters continue."""
        self.token_endpoint.clear_requests()
        self.api.clear_requests()

    def fail_next(self, requests: int, fault: Fault = UNAVAILABLE) -> None:
        """Apply a fault to the next token requests: short for `token_endpoint.fail_next()`."""
        self.token_endpoint.fail_next(requests, fault)

    def fail_for(self, seconds: float, fault: Fault = UNAVAILABLE) -> None:
        """Apply a fault to every token request for a while: short for `token_endpoint.fail_for()`."""
        self.token_endpoint.fail_for(seconds, fault)

    def reject_next(self, requests: int) -> None:
        """Reject the tokens of the next API requests: short for `api.fail_next(requests, RejectedToken())`."""
        self.api.fail_next(requests, RejectedToken())

    def revoke(self, token_value: str) -> bool:
        """Revoke one token; return whether it was valid.

        Raises:
            ConfigurationError: if it is not a string.
        """
        check_type("token_value", token_value, str, hint="pass the value of an AccessToken")
        return self._server.tokens.revoke(token_value)

    def revoke_all(self, client_id: str | None = None) -> None:
        """Revoke every token issued so far, or those of one client.

        Raises:
            ConfigurationError: if the client is unknown.
        """
        if client_id is not None:
            self._server.clients.newest_secret_of(client_id)
        self._server.tokens.revoke_all(client_id)

    def add_client(self, client_id: str, *, client_secret: str) -> None:
        """Add a client.

        Raises:
            ConfigurationError: if the id or secret is invalid, or the client exists.
        """
        self._server.clients.add(client_id, client_secret=conceal(client_secret))

    def rotate_secret(self, client_id: str, *, new_secret: str, keep_old: bool = False) -> None:
        """Give a client a new secret. Its tokens stay valid.

        Args:
            client_id: the client.
            new_secret: its secret from now on, also in `credentials_of()`.
            keep_old: accept earlier secrets until `drop_old_secrets()`.

        Raises:
            ConfigurationError: if the client is unknown or the secret invalid.
        """
        self._server.clients.rotate(client_id, new_secret=conceal(new_secret), keep_old=keep_old)

    def drop_old_secrets(self, client_id: str) -> None:
        """Refuse all secrets of a client except its newest. Raises `ConfigurationError` if it is unknown."""
        self._server.clients.drop_old(client_id)

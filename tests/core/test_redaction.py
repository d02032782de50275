"""`simplestore_async._core.redaction`, and that neither secret nor token shows wherever Python shows values.

The canaries are module constants, and every object is built by a function without arguments: a traceback with locals
would otherwise show them as the test's own.
"""

from __future__ import annotations

import copy
import json
import pickle
import reprlib
import traceback
from pprint import pformat
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from yarl import URL

from simplestore_async import AccessToken, ClientCredentials, RenewalPolicy, SecretFile
from simplestore_async._core.redaction import MASK, RedactedBytes, RedactedStr, conceal, kind_of
from simplestore_async._core.state import ProviderState
from simplestore_async.errors import ConfigurationError, TokenError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simplestore_async._core.policy import HeldToken

SECRET = "canary-secret"
TOKEN = "canary-token"


def leaks(error: BaseException | None) -> list[str]:
    """Return where a canary is in all that a log or a debugger may show of an error and of those behind it."""
    shown: list[str] = []
    while error is not None:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        shown += [str(error), repr(error), repr(vars(error)), *lines]
        error = error.__cause__ or error.__context__
    return [text for text in shown if "canary" in text]


# Seen without its types: the constructors are given wrong ones.
Credentials: Any = ClientCredentials
Token: Any = AccessToken


def credentials(**changes: Any) -> ClientCredentials:
    return ClientCredentials(**{"client_id": "app", "client_secret": SECRET} | changes)


def token() -> AccessToken:
    return AccessToken(TOKEN, issued_at=1, expires_at=3601)


def held_token() -> HeldToken:
    return RenewalPolicy().hold(token(), requested_at=1, is_first=True, is_unproven=False, random=lambda: 0.5)


def state() -> ProviderState:
    after, _ = ProviderState().received(token(), requested_at=1, now=1, is_replacement=False)
    return after


def state_after_a_rejection() -> ProviderState:
    after, _ = state().rejects(token(), 2)
    return after


def get_secret() -> str:
    return SECRET


HOLDERS: list[Callable[[], Any]] = [
    credentials,
    lambda: credentials(client_secret=get_secret),
    lambda: credentials(client_secret=SecretFile("/run/secrets/simplestore")),
    lambda: credentials(extra_parameters={"assertion": SECRET}),
    token,
    held_token,
    state,
    state_after_a_rejection,
]
IDS = [
    "credentials",
    "callable",
    "file",
    "extra parameters",
    "token",
    "held_token",
    "state",
    "rejection",
]


class TestRedactedStr:
    def test_is_its_value(self) -> None:
        """It is the string wherever a string is used: in comparisons, dictionaries, bytes, JSON and headers."""
        redacted = RedactedStr(TOKEN)

        assert redacted == TOKEN
        assert {TOKEN: 1}[redacted] == 1
        assert TOKEN.encode() == redacted.encode()
        assert json.dumps(TOKEN) == json.dumps(redacted)
        assert TOKEN == f"{redacted}"

    @pytest.mark.parametrize(
        "show",
        [
            repr,
            ascii,
            pformat,
            lambda value: f"{value!r}",
            lambda value: "%r" % value,  # noqa: UP031 - as logging does
            lambda value: str([value]),
            lambda value: str({"secret": value}),
            lambda value: pformat({"secret": [value]}, width=1),
        ],
    )
    def test_repr(self, show: Callable[[str], str]) -> None:
        """Everything based on `repr` shows `'***'`, alone or in a container, for any length."""
        assert "'***'" in show(RedactedStr(TOKEN * 50))
        assert "canary" not in show(RedactedStr(TOKEN * 50))

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    def test_copy(self, duplicate: Callable[[str], str]) -> None:
        """A copy is the string itself, redaction included."""
        redacted = RedactedStr(TOKEN)

        assert redacted is duplicate(redacted)

    def test_no_attributes(self) -> None:
        """It carries nothing but its characters."""
        assert not hasattr(RedactedStr(TOKEN), "__dict__")

    def test_operations_give_plain_strings(self) -> None:
        """A string made from it is a plain one, which is why a header value is built whole."""
        assert "'Bearer x'" == repr("Bearer " + RedactedStr("x"))


def test_conceal_a_string() -> None:
    """A string is redacted."""
    assert ("'***'", SECRET) == (repr(conceal(SECRET)), str(conceal(SECRET)))


@pytest.mark.parametrize("value", [None, 5, get_secret])
def test_conceal_anything_else(value: object) -> None:
    """Anything but a string is returned unchanged, for validation elsewhere."""
    assert value is conceal(value)


def test_conceal_bytes() -> None:
    """Bytes, which are passed by mistake, are redacted, and still called bytes."""
    concealed = conceal(SECRET.encode())
    assert ("b'***'", SECRET.encode(), "bytes") == (repr(concealed), concealed, kind_of(concealed))
    assert RedactedBytes is type(concealed)


def test_slices_of_bytes() -> None:
    """A part of redacted bytes is redacted; one byte of them is a number."""
    body = RedactedBytes(b"canary")

    assert ("b'***'", b"nary", ord("c")) == (repr(body[2:]), body[2:], body[0])


def test_cut_short() -> None:
    """A string shortened by reprlib or rich is as hidden as the whole."""
    assert "'***'" == repr(RedactedStr("long" * 100)[:80])
    assert "canary" not in reprlib.Repr().repr(RedactedStr("canary" * 100))


@pytest.mark.parametrize("build", HOLDERS, ids=IDS)
@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        pformat,
        lambda value: f"{value!r} {value} {value!s}",
        lambda value: "%r %s" % (value, value),  # noqa: UP031 - as logging does
        lambda value: str([value]),
        lambda value: repr(attrs.asdict(value)),
        lambda value: pformat(attrs.asdict(value), width=1),
        lambda value: repr(attrs.astuple(value)),
        lambda value: repr(attrs.asdict(value, recurse=False)),
    ],
    ids=["repr", "str", "format", "pformat", "f-string", "percent", "list", "asdict", "pformat", "astuple", "flat"],
)
def test_shown(build: Callable[[], Any], show: Callable[[Any], str]) -> None:
    """No way to show an object shows its secret or token."""
    assert "canary" not in show(build())


@pytest.mark.parametrize("build", HOLDERS, ids=IDS)
def test_in_the_locals_of_a_traceback(build: Callable[[], Any]) -> None:
    """A traceback with locals shows neither secret nor token."""

    def fail(held: object) -> None:
        raise TokenError("No token: reason")

    with pytest.raises(TokenError) as caught:
        fail(build())

    assert [] == leaks(caught.value)


@pytest.mark.parametrize(
    ("build", "advice"),
    [
        (lambda: RedactedStr(SECRET), "let each process read or request its own"),
        (credentials, r"use ClientCredentials\.from_env\(\) in each process"),
        (lambda: credentials(client_secret=get_secret), r"use ClientCredentials\.from_env\(\) in each process"),
        (token, "give each process its own TokenProvider, and let them share a FileTokenCache"),
        (held_token, "give each process its own TokenProvider"),
        (state, "give each process its own TokenProvider"),
        (state_after_a_rejection, "let each process read or request its own"),
        (lambda: {"headers": token().authorization}, "let each process read or request its own"),
    ],
    ids=[
        "string",
        "credentials",
        "callable",
        "token",
        "held_token",
        "state",
        "rejection",
        "authorization",
    ],
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(build: Callable[[], Any], advice: str, protocol: int) -> None:
    """Pickling a secret or a token is refused, with a hint; the error shows neither."""
    with pytest.raises(TypeError, match=advice) as caught:
        pickle.dumps(build(), protocol)

    assert [] == leaks(caught.value)


class Masked:
    def __repr__(self) -> str:
        return MASK

    def get_secret_value(self) -> str:
        raise LookupError(SECRET)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Credentials(client_id="", client_secret=SECRET),
        lambda: Credentials(client_id=5, client_secret=SECRET),
        lambda: Credentials(client_id="app", client_secret=SECRET + "\nx"),
        lambda: Credentials(client_id="app", client_secret=SECRET + "\ud800"),
        lambda: Credentials(client_id="app", client_secret=SECRET.encode()),
        lambda: Credentials(client_id="app", client_secret=Masked()),
        lambda: Credentials(client_id="app", client_secret=SECRET, token_url="auth.example.com"),
        lambda: Credentials(client_id="app", client_secret=SECRET, token_url=5),
        lambda: Credentials(client_id="app", client_secret=SECRET, token_url="http://auth.example.com"),
        lambda: Credentials(client_id="app", client_secret=SECRET, token_url="https://*.example.com"),
        lambda: Credentials(client_id="app", client_secret=SECRET, token_url="https://auth.example.com/#a"),
        lambda: Credentials(
            client_id="app", client_secret=SECRET, token_url="https://app:" + SECRET + "@auth.example.com"
        ),
        lambda: Credentials(
            client_id="app", client_secret=SECRET, token_url="https://app:" + SECRET + "@auth.example.com:99999"
        ),
        lambda: Credentials(
            client_id="app", client_secret=SECRET, token_url=URL("https://app:" + SECRET + "@auth.example.com")
        ),
        lambda: Credentials(client_id="app", client_secret=SECRET, scope='"'),
        lambda: Credentials(client_id="app", client_secret=SECRET, scope=5),
        lambda: Credentials(
            client_id="app", client_secret=SECRET, extra_parameters={"assertion": SECRET, "audience": 5}
        ),
        lambda: Credentials(
            client_id="app", client_secret=SECRET, extra_parameters={"assertion": SECRET, "client_id": "app"}
        ),
        lambda: Credentials(client_id="app", client_secret=SECRET, extra_parameters={"client_secret": SECRET}),
        lambda: Credentials(client_id="app", client_secret=SECRET, extra_parameters=[("assertion", SECRET)]),
        lambda: Credentials(client_id="app", client_secret=SECRET, auth_method="private_key_jwt"),
        lambda: Token("Bearer " + TOKEN, issued_at=1, expires_at=2),
        lambda: Token(TOKEN + "\r\n", issued_at=1, expires_at=2),
        lambda: Token(TOKEN.encode(), issued_at=1, expires_at=2),
        lambda: Token(TOKEN, token_type="DPoP", issued_at=1, expires_at=2),
        lambda: Token(TOKEN, issued_at="now", expires_at=2),
        lambda: Token(TOKEN, issued_at=1, expires_at=float("nan")),
        lambda: Token(TOKEN, issued_at=1, expires_at=0),
    ],
    ids=[
        "client_id empty",
        "client_id type",
        "client_secret line break",
        "client_secret surrogate",
        "client_secret bytes",
        "client_secret masked",
        "token_url relative",
        "token_url type",
        "token_url http",
        "token_url wildcard",
        "token_url fragment",
        "token_url password",
        "token_url password and port",
        "token_url object with password",
        "scope characters",
        "scope type",
        "extra_parameters type",
        "extra_parameters client_id",
        "extra_parameters client_secret",
        "extra_parameters pairs",
        "auth_method",
        "value with Bearer",
        "value with line break",
        "value bytes",
        "token_type",
        "issued_at",
        "expires_at",
        "expires_at before issued_at",
    ],
)
def test_constructor_error(build: Callable[[], object]) -> None:
    """The error of a constructor shows neither secret nor token, not even in a traceback with locals."""
    with pytest.raises(ConfigurationError) as caught:
        build()

    assert [] == leaks(caught.value)


def leave_environment_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set all variables that `from_env()` reads, but for one."""
    variables = {
        "CLIENT_ID": "app",
        "CLIENT_SECRET": SECRET,
        "TOKEN_URL": "https://auth.example.com/token",
        "SCOPE": "read",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(f"SIMPLESTORE_{variable}", value)
    monkeypatch.delenv("SIMPLESTORE_CLIENT_SECRET_FILE", raising=False)
    if name:
        monkeypatch.delenv(f"SIMPLESTORE_{name}")


@pytest.mark.parametrize(
    ("variable", "make_value"),
    [
        ("CLIENT_ID", lambda: ""),
        ("CLIENT_ID", lambda: "app\nx"),
        ("CLIENT_SECRET", lambda: SECRET + "\nx"),
        ("CLIENT_SECRET_FILE", lambda: "/nowhere"),
        ("TOKEN_URL", lambda: "auth.example.com"),
        ("TOKEN_URL", lambda: "http://auth.example.com"),
        ("TOKEN_URL", lambda: "https://app:" + SECRET + "@auth.example.com"),
        ("SCOPE", lambda: '"'),
    ],
    ids=["id", "id line", "secret line", "both", "url", "http", "url password", "scope"],
)
def test_from_env_error(monkeypatch: pytest.MonkeyPatch, variable: str, make_value: Callable[[], str]) -> None:
    """The error of `from_env()` shows no secret, not even in a traceback with locals."""
    leave_environment_without("", monkeypatch)
    monkeypatch.setenv(f"SIMPLESTORE_{variable}", make_value())

    with pytest.raises(ConfigurationError) as caught:
        ClientCredentials.from_env()

    assert [] == leaks(caught.value)


def write_secret(path: Path, rest: bytes) -> Path:
    path.write_bytes(SECRET.encode() + rest)
    return path


@pytest.mark.parametrize("rest", [b"\nsecond", b"\0", b"\xff"], ids=["lines", "nul", "latin-1"])
@pytest.mark.parametrize("is_from_env", [False, True])
def test_secret_file_error(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    rest: bytes,
    is_from_env: bool,
) -> None:
    """The error about a secret file shows nothing of its content, not even in a traceback with locals."""
    path = write_secret(tmp_path / "secret", rest)
    leave_environment_without("CLIENT_SECRET", monkeypatch)
    monkeypatch.setenv("SIMPLESTORE_CLIENT_SECRET_FILE", str(path))

    with pytest.raises(ConfigurationError) as caught:
        (ClientCredentials.from_env if is_from_env else SecretFile(path))()

    assert [] == leaks(caught.value)

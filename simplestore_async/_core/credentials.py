"""Who we are to the token endpoint. Rule: the secret is fetched when it is needed, and shows itself nowhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import inspect
import json
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Self, TypeAlias, cast, get_args

import attrs
from yarl import URL

from simplestore_async.errors import ConfigurationError, TokenError

from .origin import parse_url
from .redaction import MASK, RedactedStr, conceal, kind_of, show_fields
from .secret_text import read_secret_text
from .token import split_scope

__all__ = ["DEFAULT_TOKEN_URL", "AuthMethod", "ClientCredentials", "Secret", "SecretFile"]

AuthMethod: TypeAlias = Literal["client_secret_post", "client_secret_basic"]
Secret: TypeAlias = str | Callable[[], str | Awaitable[str]]

DEFAULT_TOKEN_URL: Final = "https://auth.simplestore.io/connect/token"  # noqa: S105 - the documented address, no secret

_PROTOCOL_FIELDS: Final = frozenset({"grant_type", "client_id", "client_secret", "scope"})
_SCOPE_TOKEN: Final = re.compile(r"[!#-\[\]-~]+")
_HINT: Final = "copy it from the Control Panel"


def _is_plain_text(text: str) -> bool:
    # A line break comes from a file read whole, a lone surrogate from an environment that is not UTF-8.
    return not any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in text)


def _check_text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{field} must be a string, not {kind_of(value)}")
    if not value:
        raise ConfigurationError(f"{field} is empty: {_HINT}")
    if not _is_plain_text(value):
        raise ConfigurationError(f"{field} holds a line break or another character that is not text: {_HINT} again")
    return value


def _check_client_id(_credentials: ClientCredentials, _field: object, value: Any) -> None:
    _check_text("client_id", value)


def _check_secret(_credentials: ClientCredentials, _field: object, value: Any) -> None:
    if not callable(value) or hasattr(value, "get_secret_value"):
        _check_secret_text("client_secret", value)


def _check_secret_text(field: str, value: object) -> str:
    if hasattr(value, "get_secret_value"):
        raise ConfigurationError(
            f"{field} is a {type(value).__name__}: use its value, client_secret=secret.get_secret_value()"
        )
    return _check_text(field, value)


def _conceal_values(parameters: Any) -> Mapping[str, str] | str:
    """Return an immutable copy, redacted, since some servers take further secrets there; or what is there instead."""
    if not isinstance(parameters, Mapping):
        return kind_of(parameters)
    return MappingProxyType({name: conceal(value) for name, value in cast("Mapping[str, str]", parameters).items()})


def _scope_names(scope: Any) -> tuple[str, ...]:
    if not isinstance(scope, Iterable):
        raise ConfigurationError(f"scope must be a string or strings, not {type(scope).__name__}")
    names = split_scope(scope)
    if not all(isinstance(name, str) and _SCOPE_TOKEN.fullmatch(name) for name in names):
        raise ConfigurationError(
            "scope must be names of visible ASCII characters without spaces, quotes or backslashes (RFC 6749 3.3)"
        )
    return tuple(dict.fromkeys(names))


def _check_extra_parameters(_credentials: ClientCredentials, _field: object, value: Mapping[Any, Any]) -> None:
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConfigurationError("extra_parameters must map strings to strings")
        if name in _PROTOCOL_FIELDS:
            raise ConfigurationError(f"extra_parameters must not replace {name}: use the argument of ClientCredentials")


def _check_auth_method(_credentials: ClientCredentials, _field: object, value: Any) -> None:
    if value not in get_args(AuthMethod):
        raise ConfigurationError(f"auth_method must be one of: {', '.join(get_args(AuthMethod))}")


def _show_names(parameters: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{name!r}: {MASK}' for name in parameters)}}}"


@attrs.frozen(repr=False)
class SecretFile:
    """A client secret in a file that may be replaced while the program runs, such as a Kubernetes mount.

    Pass it as `client_secret`. The file is read for every renewal; one newline at its end is dropped.

    Raises:
        ConfigurationError: when called, if the file cannot be read, is empty, or holds no UTF-8 text.
    """

    path: Path = attrs.field(converter=Path)

    __repr__ = show_fields

    def __call__(self) -> str:
        """Return the secret as the file holds it now."""
        text, problem = read_secret_text(self.path)
        if problem:
            raise ConfigurationError(f"cannot read the client secret from {self.path}: {problem}")
        secret = RedactedStr(text.removesuffix("\n").removesuffix("\r"))
        return _check_text(f"the client secret in {self.path}", secret)


@attrs.frozen(init=False, kw_only=True, repr=False)
class ClientCredentials:
    """A client's credentials (RFC 6749 2.3, 4.4), as SimpleStore's Control Panel gives them.

    Immutable. The secret is redacted wherever the object is shown. Pickling is refused, but for what `from_env()` made:
    that pickles as the recipe, and the other process reads its own environment.

    Args:
        client_id: the client id.
        client_secret: the secret; or a callable, plain or async, that returns it. A callable is asked once for every
            renewal, a plain one in a thread of its own. For a file that rotates there is `SecretFile`.
        token_url: the token endpoint; https, or http on loopback.
        scope: names of scopes; a string may hold several with spaces between them (RFC 6749 3.3).
        extra_parameters: further form fields, such as `audience` or `resource`.
        auth_method: `"client_secret_post"` sends id and secret in the form, as SimpleStore documents;
            `"client_secret_basic"` sends them in the Authorization header (RFC 6749 2.3.1).
        allow_insecure_http: accept a `token_url` of plain http to other machines; for closed test networks only.

    Raises:
        ConfigurationError: names the field, what was wrong and what to set.
    """

    client_id: str = attrs.field(validator=_check_client_id)
    client_secret: Secret = attrs.field(validator=_check_secret, repr=lambda _: MASK)
    token_url: URL
    scope: tuple[str, ...]
    extra_parameters: Mapping[str, str] = attrs.field(validator=_check_extra_parameters, hash=False, repr=_show_names)
    auth_method: AuthMethod = attrs.field(validator=_check_auth_method)
    allow_insecure_http: bool
    _is_from_env: bool = attrs.field(init=False, default=False, eq=False, repr=False)

    def __init__(  # noqa: PLR0913 - the names of RFC 6749, each with its default
        self,
        *,
        client_id: str,
        client_secret: Secret,
        token_url: str | URL = DEFAULT_TOKEN_URL,
        scope: str | Iterable[str] = (),
        extra_parameters: Mapping[str, str] = MappingProxyType({}),
        auth_method: AuthMethod = "client_secret_post",
        allow_insecure_http: bool = False,
    ) -> None:
        client_secret, token_url = conceal(client_secret), conceal(token_url)
        parameters = _conceal_values(extra_parameters)
        del extra_parameters
        if isinstance(parameters, str):
            raise ConfigurationError(f"extra_parameters must map strings to strings, not be a {parameters}")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - attrs writes it
            client_id=client_id,
            client_secret=client_secret,
            token_url=parse_url("token_url", token_url, allow_insecure_http=allow_insecure_http),
            scope=_scope_names(scope),
            extra_parameters=parameters,
            auth_method=auth_method,
            allow_insecure_http=allow_insecure_http,
        )

    @classmethod
    def from_env(cls) -> Self:
        """Return the credentials that the environment names.

        `SIMPLESTORE_CLIENT_ID`; `SIMPLESTORE_CLIENT_SECRET` or `SIMPLESTORE_CLIENT_SECRET_FILE`; and, if set,
        `SIMPLESTORE_TOKEN_URL` and `SIMPLESTORE_SCOPE`. An empty variable counts as unset.

        Raises:
            ConfigurationError: names the variable that is missing or wrong; a secret file is read once to find out.
        """
        path = os.environ.get("SIMPLESTORE_CLIENT_SECRET_FILE")
        secret: Secret = SecretFile(path) if path else RedactedStr(os.environ.get("SIMPLESTORE_CLIENT_SECRET", ""))
        if path and os.environ.get("SIMPLESTORE_CLIENT_SECRET"):
            raise ConfigurationError(
                "SIMPLESTORE_CLIENT_SECRET and SIMPLESTORE_CLIENT_SECRET_FILE are both set: unset one of them"
            )
        client_id = os.environ.get("SIMPLESTORE_CLIENT_ID", "")
        missing = [name for name, value in (("ID", client_id), ("SECRET", secret)) if not value]
        if missing:
            names = " and ".join(f"SIMPLESTORE_CLIENT_{name}" for name in missing)
            raise ConfigurationError(
                f"{names} not set: copy from the Control Panel "
                "(SIMPLESTORE_CLIENT_SECRET_FILE may name a file with the secret)"
            )
        try:
            if isinstance(secret, SecretFile):
                secret()
        except ConfigurationError as error:
            raise ConfigurationError(f"SIMPLESTORE_CLIENT_SECRET_FILE: {error}") from None
        try:
            credentials = cls(
                client_id=client_id,
                client_secret=secret,
                token_url=os.environ.get("SIMPLESTORE_TOKEN_URL") or DEFAULT_TOKEN_URL,
                scope=os.environ.get("SIMPLESTORE_SCOPE", ""),
            )
        except ConfigurationError as error:
            # Every message starts with its field, and the variables are named after the fields.
            field, _, rest = str(error).partition(" ")
            raise ConfigurationError(f"SIMPLESTORE_{field.upper()} {rest}") from None
        object.__setattr__(credentials, "_is_from_env", True)
        return credentials

    @property
    def has_dynamic_secret(self) -> bool:
        """Whether the secret is asked for at every renewal, and may have changed since."""
        return callable(self.client_secret)

    @property
    def cache_key(self) -> str:
        """A digest of all that tells one token from another, never of the secret: 64 hexadecimal digits."""
        identity = (
            str(self.token_url),
            self.client_id,
            self.auth_method,
            sorted(self.scope),
            sorted(self.extra_parameters.items()),
        )
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    async def read_secret(self) -> str:
        """Return the secret, asking the callable if it is one.

        An async callable runs here, a plain one in a thread of its own.

        Raises:
            TokenError: if the callable fails or returns no secret. What it raised is named, its text is not shown.
        """
        if isinstance(self.client_secret, str):
            return self.client_secret
        try:
            return _check_secret_text("what it returned", conceal(await _call(self.client_secret)))
        except ConfigurationError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a user's callable raises, its values stay out of our error
            problem = f"it raised {type(error).__name__}"
        source = "the client secret" if isinstance(self.client_secret, SecretFile) else "the client_secret callable"
        raise TokenError(f"No token: {source} gave no secret: {problem}", retryable=True)

    __repr__ = show_fields

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[[], Self], tuple[()]]:
        if not self._is_from_env:
            raise TypeError(
                "ClientCredentials cannot be pickled, because the secret would travel along: use "
                "ClientCredentials.from_env() in each process"
            )
        return type(self).from_env, ()


async def _call(secret: Callable[[], Any]) -> object:
    if inspect.iscoroutinefunction(secret) or inspect.iscoroutinefunction(getattr(secret, "__call__", None)):  # noqa: B004 - an object with an async __call__
        return await secret()
    # Not the loop's default executor: its threads may all be waiting for this very token.
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="simplestore-secret")
    try:
        result = await asyncio.get_running_loop().run_in_executor(executor, _call_without_stop_iteration, secret)
    finally:
        executor.shutdown(wait=False)
    # A plain callable may return a coroutine: `lambda: vault.read()`, or a functools.partial of an async function.
    return await result if inspect.isawaitable(result) else result


def _call_without_stop_iteration(secret: Callable[[], object]) -> object:
    # asyncio cannot put StopIteration into a future: whoever waits for it would wait for ever.
    try:
        return secret()
    except StopIteration:
        raise RuntimeError from None

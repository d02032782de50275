"""Client credentials. Rule: the secret is read when needed and never shown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, Self, TypeAlias, cast, get_args

import attrs
from yarl import URL

from simplestore_async.errors import ConfigurationError

from .client_authentication import ClientAuthentication, add_authentication, unavailable
from .environment import PREFIX, missing_variables, read_variable
from .origin import parse_url
from .redaction import MASK, RedactedStr, conceal, show_fields
from .secret import Secret, SecretFile, SupportsSecretValue, ask_secret, check_secret_text, read_secret_file, reveal
from .token import split_scope
from .validation import check_callable, check_flag, type_name
from .worker import Worker

__all__ = ["DEFAULT_TOKEN_URL", "AuthMethod", "ClientCredentials", "Secret", "SecretFile"]

AuthMethod: TypeAlias = Literal["client_secret_post", "client_secret_basic", "none"]

DEFAULT_TOKEN_URL: Final = "https://auth.simplestore.io/connect/token"  # noqa: S105 - not a secret

_PROTOCOL_FIELDS: Final = frozenset({"grant_type", "client_id", "client_secret", "scope"})
_SCOPE_TOKEN: Final = re.compile(r"[!#-\[\]-~]+")


def _check_secret(_credentials: ClientCredentials, _field: object, value: Any) -> None:
    if not isinstance(value, str):
        check_callable("client_secret", value, arguments=0)


def _read_literal(value: Any, auth_method: object) -> Any:
    """Return a string secret redacted, and any other unchanged; empty if the method needs none."""
    needs_secret = isinstance(auth_method, str) and auth_method != "none"
    if value is None and needs_secret:
        raise ConfigurationError("client_secret", "is not set", "copy it from the Control Panel")
    if value is not None and not needs_secret:
        raise ConfigurationError("client_secret", "has no effect with this auth_method", "leave it out")
    if value is None:
        return RedactedStr()
    secret, problem = reveal(value)
    if problem:
        raise ConfigurationError("client_secret", problem)
    return secret if callable(secret) else check_secret_text("client_secret", secret)


def _read_scope(scope: Any) -> tuple[str, ...]:
    names = split_scope(scope)
    if not all(isinstance(name, str) and _SCOPE_TOKEN.fullmatch(name) for name in names):
        raise ConfigurationError(
            "scope",
            "must be names of visible ASCII characters",
            "without spaces, quotes or backslashes (RFC 6749 §3.3)",
        )
    return tuple(dict.fromkeys(names))


def _conceal_values(parameters: Any) -> Mapping[str, str | tuple[str, ...]] | str:
    """Return an immutable copy, redacted because it may contain further secrets; or the problem.

    The problem is not raised: a traceback would show the locals of its frames.
    """
    if not isinstance(parameters, Mapping):
        return f"must map strings to strings, got {type_name(parameters)}"
    concealed: dict[str, Any] = {}
    for name, value in cast("Mapping[str, Any]", parameters).items():
        is_several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        revealed = [reveal(text) for text in cast("Sequence[object]", value if is_several else (value,))]
        if problem := next(filter(None, (problem for _, problem in revealed)), ""):
            return problem
        texts = tuple(text for text, _ in revealed)
        concealed[name] = texts[0] if len(texts) == 1 else texts
    return MappingProxyType(concealed)


def _check_extra_parameters(_credentials: ClientCredentials, _field: object, value: Mapping[Any, Any]) -> None:
    for name, given in value.items():
        texts = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,))
        if not texts:
            raise ConfigurationError("extra_parameters", "must not have an empty sequence", "leave the name out")
        for text in (name, *texts):
            if not isinstance(text, str):
                raise ConfigurationError(
                    "extra_parameters", f"must map strings to strings or sequences of them, got {type_name(text)}"
                )
            if any("\ud800" <= char <= "\udfff" for char in text):
                raise ConfigurationError("extra_parameters", "must be text that UTF-8 can encode, got a lone surrogate")
        if name in _PROTOCOL_FIELDS:
            raise ConfigurationError(
                "extra_parameters", f"must not replace {name}", "use the argument of ClientCredentials"
            )


def _check_auth_method(value: object) -> None:
    methods = get_args(AuthMethod)
    if isinstance(value, str) and value in methods:
        return
    if isinstance(value, str | type) or not isinstance(value, ClientAuthentication):
        got = "another string" if isinstance(value, str) else type_name(value)
        raise ConfigurationError("auth_method", f"must be {', '.join(methods)} or a ClientAuthentication, got {got}")


def _show_method(method: object) -> str:
    return repr(method) if isinstance(method, str) else type(method).__name__


def _show_names(parameters: Mapping[str, object]) -> str:
    return f"{{{', '.join(f'{name!r}: {MASK}' for name in parameters)}}}"


def _show_origin(url: URL) -> str:
    return repr(str(url.origin()))


@attrs.frozen(init=False, kw_only=True, repr=False)
class ClientCredentials:
    """A client's credentials (RFC 6749 §2.3, §4.4), from SimpleStore's Control Panel.

    Immutable. The secret is redacted wherever the object is shown. Pickling is refused, except for the result of
    `from_env()`: it pickles as that call, and the other process reads its own environment.

    Args:
        client_id: the client id; white space around it is dropped.
        client_secret: the secret; an object with `get_secret_value()`, such as pydantic's `SecretStr`; or a callable,
            plain or async, that returns either. A callable is called once for every renewal, a plain one in a daemon
            thread, one call at a time. Use `SecretFile` for a file that rotates.
        token_url: the token endpoint; https, or http on loopback.
        scope: names of scopes; a string may have several, separated by spaces (RFC 6749 §3.3).
        extra_parameters: further form fields, such as `audience`. A sequence is sent as several fields of one name,
            such as `resource` (RFC 8707 §2.2).
        auth_method: `"client_secret_post"` sends id and secret in the form, as SimpleStore documents;
            `"client_secret_basic"` sends them in the Authorization header (RFC 6749 §2.3.1). For other authorization
            servers: a `ClientAuthentication` in place of the secret, or `"none"`, which sends the id alone, for a
            `TokenEndpoint` whose `ssl` has the client's certificate (RFC 8705 §2).
        allow_insecure_http: accept a `token_url` of plain http to other machines; for closed test networks only.

    Raises:
        ConfigurationError: names the argument, the problem and what to set.
    """

    client_id: str
    client_secret: Secret = attrs.field(validator=_check_secret, repr=lambda _: MASK)
    token_url: URL = attrs.field(repr=_show_origin)
    scope: tuple[str, ...]
    extra_parameters: Mapping[str, str | tuple[str, ...]] = attrs.field(
        validator=_check_extra_parameters, hash=False, repr=_show_names
    )
    auth_method: AuthMethod | ClientAuthentication = attrs.field(repr=_show_method)
    allow_insecure_http: bool
    _is_from_env: bool = attrs.field(init=False, default=False, eq=False, repr=False)
    _worker: Worker | None = attrs.field(init=False, default=None, eq=False, repr=False)

    def __init__(  # noqa: PLR0913 - the names of RFC 6749, each with its default
        self,
        *,
        client_id: str,
        client_secret: Secret | SupportsSecretValue | None = None,
        token_url: str | URL = DEFAULT_TOKEN_URL,
        scope: str | Iterable[str] = (),
        extra_parameters: Mapping[str, str | Sequence[str]] = MappingProxyType({}),
        auth_method: AuthMethod | ClientAuthentication = "client_secret_post",
        allow_insecure_http: bool = False,
    ) -> None:
        client_id, client_secret, token_url = conceal(client_id), conceal(client_secret), conceal(token_url)
        parameters = _conceal_values(extra_parameters)
        del extra_parameters
        if isinstance(parameters, str):
            raise ConfigurationError("extra_parameters", parameters)
        check_flag("allow_insecure_http", allow_insecure_http)
        _check_auth_method(auth_method)
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - attrs writes it
            client_id=str(check_secret_text("client_id", client_id, keep_spaces=False)),
            client_secret=_read_literal(client_secret, auth_method),
            token_url=parse_url("token_url", token_url, allow_insecure_http=allow_insecure_http),
            scope=_read_scope(scope),
            extra_parameters=parameters,
            auth_method=auth_method,
            allow_insecure_http=allow_insecure_http,
        )

    def __attrs_post_init__(self) -> None:
        if callable(self.client_secret):
            object.__setattr__(self, "_worker", Worker("simplestore-secret"))

    @classmethod
    def from_env(cls) -> Self:
        """Return the credentials in the environment.

        `SIMPLESTORE_CLIENT_ID` or `SIMPLESTORE_CLIENT_ID_FILE`; `SIMPLESTORE_CLIENT_SECRET` or
        `SIMPLESTORE_CLIENT_SECRET_FILE`; and, if set, `SIMPLESTORE_TOKEN_URL` and `SIMPLESTORE_SCOPE`. An empty
        variable counts as unset.

        Raises:
            ConfigurationError: names the variable that is missing or wrong. Files are read once as a check.
        """
        id_path = _find_file("SIMPLESTORE_CLIENT_ID")
        secret_path = _find_file("SIMPLESTORE_CLIENT_SECRET")
        client_id = read_variable("SIMPLESTORE_CLIENT_ID")
        secret: Secret = read_variable("SIMPLESTORE_CLIENT_SECRET", keep_spaces=True)
        given = {"SIMPLESTORE_CLIENT_ID": client_id or id_path, "SIMPLESTORE_CLIENT_SECRET": secret or secret_path}
        if missing := [name for name, value in given.items() if not value]:
            files = " or ".join(f"{name}_FILE" for name in missing)
            values = "them" if missing[1:] else "it"
            raise missing_variables(*missing, hint=f"copy {values} from the Control Panel, or name a file in {files}")
        if id_path:
            client_id = read_secret_file("SIMPLESTORE_CLIENT_ID_FILE", SecretFile(id_path), keep_spaces=False)
        if secret_path:
            secret = SecretFile(secret_path)
            read_secret_file("SIMPLESTORE_CLIENT_SECRET_FILE", secret)
        try:
            credentials = cls(
                client_id=client_id,
                client_secret=secret,
                token_url=read_variable("SIMPLESTORE_TOKEN_URL") or DEFAULT_TOKEN_URL,
                scope=read_variable("SIMPLESTORE_SCOPE"),
            )
        except ConfigurationError as error:
            # The variables are named after the arguments.
            field = f"{PREFIX}{error.field.upper()}"
            raise ConfigurationError(field, error.problem, error.hint, code=error.code) from None
        object.__setattr__(credentials, "_is_from_env", True)
        return credentials

    @property
    def has_dynamic_secret(self) -> bool:
        """Whether the secret is read for every renewal, so that it may have changed."""
        method = self.auth_method
        return callable(self.client_secret) if isinstance(method, str) else bool(method.is_dynamic)

    @property
    def cache_key(self) -> str:
        """Digest of every field that distinguishes tokens, without the secret: 64 hexadecimal digits."""
        identity = (
            str(self.token_url),
            self.client_id,
            self.auth_method if isinstance(self.auth_method, str) else ["object", str(self.auth_method.cache_key)],
            sorted(self.scope),
            sorted(self.extra_parameters.items()),
        )
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    async def read_secret(self) -> str:
        """Return the secret, calling the callable if it is one.

        An async callable runs on the event loop, a plain one in a daemon thread. A call that blocks delays the next
        call, but neither the event loop nor the exit of the process.

        Raises:
            TokenError: if the callable fails or returns no secret. Its exception's type is named, its text not shown.
        """
        if self._worker is None or isinstance(self.client_secret, str):
            return cast("str", self.client_secret)
        secret, problem = await ask_secret(self.client_secret, self._worker)
        if not problem:
            return secret
        raise unavailable("the client secret", problem)

    async def authenticate(self) -> tuple[dict[str, str], dict[str, str], str] | None:
        """Return form, headers and secret of one attempt, if `auth_method` is an object.

        Raises:
            TokenError: if it fails.
        """
        if isinstance(self.auth_method, str):
            return None
        taken = frozenset({"grant_type", "scope", *self.extra_parameters})
        return await add_authentication(
            self.auth_method, client_id=self.client_id, token_url=str(self.token_url), taken=taken
        )

    __repr__ = show_fields

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[[], Self], tuple[()]]:
        if not self._is_from_env:
            raise TypeError(
                "ClientCredentials cannot be pickled with a secret in them: use "
                "ClientCredentials.from_env() in each process"
            )
        return type(self).from_env, ()


def _find_file(variable: str) -> str:
    """Return the path in the variable with the suffix `_FILE`, redacted because it may be a secret by mistake.

    Raises:
        ConfigurationError: if *variable* is also set.
    """
    path = read_variable(f"{variable}_FILE")
    if path and read_variable(variable):
        raise ConfigurationError(variable, f"and {variable}_FILE are both set", "unset one of them")
    return path

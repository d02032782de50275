"""Client authentication without a shared secret, for authorization servers other than SimpleStore's.

Rule: each attempt has a new assertion, which is never shown.
"""

from __future__ import annotations

import hashlib
import time
from functools import partial
from importlib.util import find_spec
from itertools import chain
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

from ._core.client_authentication import ClientAuthentication, unavailable
from ._core.redaction import MASK, RedactedBytes, RedactedStr, conceal
from ._core.secret import SecretFile, ask_secret, check_secret_text, read_secret_file, reveal
from ._core.validation import check_callable, check_number, type_error, type_name
from ._core.worker import Worker
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._core.secret import Secret, SupportsSecretValue

__all__ = ["ClientAssertion", "ClientAuthentication", "PrivateKeyJwt"]

_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 §2.2
_ALGORITHMS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("Ed25519", "EdDSA"),  # RFC 9864, RFC 8037
}
# Includes clock skew and network delay; RFC 7523 requires a short life without a number.
_DEFAULT_LIFETIME_SECONDS: Final = 60.0
_LONGEST_LIFETIME_SECONDS: Final = 3600.0
_HOW_TO_MAKE: Final = "make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`"


class _Unpicklable:
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled: make it in each process")


class ClientAssertion(_Unpicklable):
    """A JWT of another issuer as client authentication (RFC 7521 §4.2, RFC 7523 §2.2).

    Pass it as `auth_method` of `ClientCredentials`, without `client_secret`: for projected tokens of Kubernetes,
    workload identity of Azure, OIDC tokens of GitHub, or SPIFFE. The assertion is read for each attempt.

    Args:
        assertion: a `SecretFile`, or a callable, plain or async, that returns the JWT or an object with
            `get_secret_value()`. A plain one is called in a daemon thread.

    Raises:
        ConfigurationError: if *assertion* is neither, such as a literal JWT, which would expire.
    """

    cache_key: Final = "client_assertion"
    is_dynamic: Final = True

    def __init__(self, assertion: SecretFile | Callable[[], str | SupportsSecretValue | Awaitable[Any]]) -> None:
        given: Any = conceal(assertion)
        del assertion
        if isinstance(given, str | bytes):
            raise type_error(
                "assertion", given, "a function or SecretFile", "a JWT expires: pass a function that reads it"
            )
        check_callable("assertion", given, arguments=0)
        self._assertion: Callable[[], Any] = given
        self._worker = Worker("simplestore-assertion")

    def __repr__(self) -> str:
        shown = repr(self._assertion) if isinstance(getattr(self, "_assertion", None), SecretFile) else MASK
        return f"{type(self).__name__}({shown})"

    async def authenticate(
        self, *, client_id: str, token_url: str, form: dict[str, str], headers: dict[str, str]
    ) -> str:
        """Add the assertion to *form*.

        Raises:
            TokenError: if it cannot be read.
        """
        del token_url, headers
        assertion, problem = await _read(self._assertion, self._worker, "assertion")
        if problem:
            raise unavailable("the client assertion", problem)
        _add_assertion(form, client_id, assertion)
        return assertion


class PrivateKeyJwt(_Unpicklable):
    """A JWT signed with the client's private key: `private_key_jwt` (RFC 7523 §2.2). Requires the extra `jwt`.

    Pass it as `auth_method` of `ClientCredentials`, without `client_secret`. Each attempt has its own JWT and `jti`.
    The key is read, and the JWT signed, in a daemon thread.

    Args:
        key: the private key in PEM, unencrypted: text, an object with `get_secret_value()`, a `SecretFile`, or a
            callable, plain or async, that returns one of these. Files and callables are read for each attempt.
        audience: the authorization server's issuer identifier, the only audience that the successor of RFC 7523
            allows. A server that follows RFC 7523 may require the address of its token endpoint instead.
        algorithm: the signature algorithm, such as `PS256`; by default `RS256`, `ES256`, `ES384`, `ES512` or `Ed25519`,
            depending on the key.
        key_id: the key's `kid` at the server, if there are several keys.
        lifetime_seconds: life of a JWT.
        type: the JWT's `typ`; `JWT` for a server that does not accept the new one.

    Raises:
        ConfigurationError: if an argument is wrong, or *key* is text and not a suitable key.
        ImportError: if the extra `jwt` is not installed.
    """

    cache_key: Final = "private_key_jwt"

    def __init__(  # noqa: PLR0913 - the parts of a JWT
        self,
        key: Secret | SupportsSecretValue | SecretFile,
        *,
        audience: str,
        algorithm: str | None = None,
        key_id: str | None = None,
        lifetime_seconds: float = _DEFAULT_LIFETIME_SECONDS,
        type: str = "client-authentication+jwt",  # noqa: A002 - the parameter's name in JOSE
    ) -> None:
        source, problem = reveal(key)
        del key
        if problem:
            raise ConfigurationError("key", problem)
        self._audience = check_secret_text("audience", audience, keep_spaces=False)
        self._key_id = None if key_id is None else check_secret_text("key_id", key_id)
        self._type = check_secret_text("type", type)
        check_number("lifetime_seconds", lifetime_seconds, above=0, at_most=_LONGEST_LIFETIME_SECONDS)
        names = list(chain(*_ALGORITHMS.values()))
        if algorithm is not None and algorithm not in names:
            got = "another string" if isinstance(cast("object", algorithm), str) else type_name(algorithm)
            raise ConfigurationError("algorithm", f"must be one of {', '.join(names)}, got {got}")
        self._algorithm = algorithm
        self._lifetime_seconds = lifetime_seconds
        self._key: str | Callable[[], Any] = source
        self._worker = Worker("simplestore-assertion")
        if find_spec("joserfc") is None:
            raise ImportError('PrivateKeyJwt needs joserfc: pip install "simplestore-async[jwt]"')
        if callable(source):
            check_callable("key", source, arguments=0)
            return
        self._key = _check_pem(source)
        _, problem = _sign(self._key, {}, algorithm, {})
        if problem:
            raise ConfigurationError("key", problem, _HOW_TO_MAKE)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK})"

    @property
    def is_dynamic(self) -> bool:
        """Whether the key is read for each attempt."""
        return callable(self._key)

    async def authenticate(
        self, *, client_id: str, token_url: str, form: dict[str, str], headers: dict[str, str]
    ) -> str:
        """Add a new assertion to *form*.

        Returns:
            A digest of the private key, which is never sent itself.

        Raises:
            TokenError: if the key cannot be read, or does not suit the algorithm.
        """
        del token_url, headers
        key = self._key
        pem, problem = await _read(key, self._worker, "key", _check_pem) if callable(key) else (key, "")
        header = {"typ": self._type} | ({} if self._key_id is None else {"kid": str(self._key_id)})
        now = int(time.time())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": str(self._audience),
            "jti": token_urlsafe(16),
            "iat": now,
            "exp": now + max(1, int(self._lifetime_seconds)),
        }
        assertion = ""
        if not problem:
            work = partial(_sign, pem, header, self._algorithm, claims)
            assertion, problem = await self._worker.run(work, droppable=True)
        if problem:
            raise unavailable("the private key", problem)
        _add_assertion(form, client_id, assertion)
        return hashlib.sha256(pem.encode()).hexdigest()


def _add_assertion(form: dict[str, str], client_id: str, assertion: str) -> None:
    form |= {"client_id": client_id, "client_assertion_type": _JWT_BEARER, "client_assertion": assertion}


async def _read(
    secret: Callable[[], Any], worker: Worker, field: str, check: Callable[[Any], str] | None = None
) -> tuple[str, str]:
    check = check or partial(check_secret_text, field, keep_spaces=False)
    if isinstance(secret, SecretFile):
        secret = partial(read_secret_file, field, secret, check=check)
    return await ask_secret(secret, worker, check=check)


def _check_pem(value: Any) -> str:
    if isinstance(value, bytes):
        value = RedactedStr(value, "utf-8", "replace")
    if not isinstance(value, str):
        raise type_error("key", value, "PEM text, SecretFile or function")
    if "PRIVATE KEY" not in value:
        raise ConfigurationError("key", "is not a private key in PEM", _HOW_TO_MAKE)
    return RedactedStr(value)


def _sign(pem: str, header: dict[str, str], algorithm: str | None, claims: dict[str, Any]) -> tuple[str, str]:
    """Return a signed JWT, redacted, or the problem; an exception may hold the key."""
    try:
        from joserfc import jwt

        key, kind = _load(pem)
        names = _ALGORITHMS.get(kind, ())
        if not names:
            return "", "the key must be RSA, P-256, P-384, P-521 or Ed25519"
        name = algorithm or names[0]
        if name not in names:
            return "", f"{name} does not suit the key; use {' or '.join(names)}"
        return RedactedStr(jwt.encode({"alg": name, **header}, claims, key, algorithms=[name])), ""
    except Exception as error:  # noqa: BLE001 - the text may contain the key
        encrypted = "ENCRYPTED" in pem and isinstance(error, TypeError)
        return "", "it is encrypted" if encrypted else f"it cannot be used ({type(error).__name__})"


def _load(pem: str) -> tuple[Any, str]:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    key = load_pem_private_key(RedactedBytes(pem.strip().encode()), password=None)
    if isinstance(key, RSAPrivateKey):
        return RSAKey.import_key(key), "RSA"
    if isinstance(key, EllipticCurvePrivateKey):
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}.get(key.curve.name, "")
        return (ECKey.import_key(key) if curve else None), curve
    if isinstance(key, Ed25519PrivateKey):
        return OKPKey.import_key(key), "Ed25519"
    return None, ""

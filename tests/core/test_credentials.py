"""`ClientCredentials`: validation, cache key and redaction."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr
from yarl import URL

from simplestore_async import ClientCredentials, SecretFile
from simplestore_async._core.credentials import DEFAULT_TOKEN_URL
from simplestore_async.client_authentication import ClientAssertion
from simplestore_async.errors import ConfigurationError

SECRET = "canary-secret"
FIELDS: dict[str, Any] = {"client_id": "app", "client_secret": SECRET}
ODD_CHARACTERS = "\n\0\x1f\x7f\x85\xa0\u200b\u2028\u3000\ufeff\ud800\udfff"
SURROUNDINGS = ["{}\n", "{}\r\n\n", "\ufeff{}", "\u200b{}\u200d", "\xa0{}\u2003", "\t{}\u2060\n", "\u3164{}\u2800"]


class LockedSecret:
    """An object like pydantic's SecretStr that cannot be read."""

    def get_secret_value(self) -> str:
        raise LookupError(SECRET)


async def ask_vault() -> str:
    return SECRET


class TestFields:
    def test_defaults(self) -> None:
        """Only id and secret are required; token URL and method default to the documented ones."""
        credentials = ClientCredentials(**FIELDS)
        url = URL("https://auth.simplestore.io/connect/token")

        assert (url, "client_secret_post") == (credentials.token_url, credentials.auth_method)
        assert ((), {}) == (credentials.scope, dict(credentials.extra_parameters))

    @pytest.mark.parametrize(
        ("scope", "expected"),
        [
            *(("", ()), (" read  write ", ("read", "write")), ("!#[]~", ("!#[]~",)), (["b", "a"], ("b", "a"))),
            (("read", "write", "read"), ("read", "write")),
            pytest.param(iter(["read"]), ("read",), id="iterator"),
        ],
    )
    def test_scope(self, scope: Any, expected: tuple[str, ...]) -> None:
        """A string is split at spaces, never into characters; duplicates are dropped and the order is kept."""
        assert expected == ClientCredentials(**FIELDS, scope=scope).scope

    @pytest.mark.parametrize("surroundings", SURROUNDINGS)
    def test_invisible_characters_around(self, surroundings: str) -> None:
        """Invisible characters around id, secret, token URL and scope, as copying adds them, are stripped."""
        fields: dict[str, Any] = FIELDS | {"token_url": DEFAULT_TOKEN_URL}
        copied: dict[str, Any] = {name: surroundings.format(value) for name, value in fields.items()}

        assert ClientCredentials(**fields) == ClientCredentials(**copied)

    def test_spaces_around(self) -> None:
        """Spaces around id and token URL are stripped; around a secret they are kept."""
        credentials = ClientCredentials(client_id=" app ", client_secret=f" {SECRET} ", token_url=" https://h/token ")

        assert ("app", f" {SECRET} ", URL("https://h/token")) == (
            credentials.client_id,
            credentials.client_secret,
            credentials.token_url,
        )

    def test_pydantic_secret(self) -> None:
        """The secret and values of extra parameters may be objects with `get_secret_value()`."""
        hidden: Any = SecretStr(SECRET)
        parameters = {"assertion": hidden, "resource": [hidden, "x"]}
        credentials = ClientCredentials(client_id="app", client_secret=hidden, extra_parameters=parameters)

        assert SECRET == credentials.client_secret
        assert {"assertion": SECRET, "resource": (SECRET, "x")} == dict(credentials.extra_parameters)

    def test_extra_parameters_are_copied(self) -> None:
        """Later changes to the caller's mapping have no effect, and the copy is read-only."""
        parameters: dict[str, str | list[str]] = {"audience": "api", "resource": ["a", "b"], "one": ["x"]}
        credentials = ClientCredentials(**FIELDS, extra_parameters=parameters)
        parameters["audience"] = "other"

        assert {"audience": "api", "resource": ("a", "b"), "one": "x"} == dict(credentials.extra_parameters)
        with pytest.raises(TypeError):
            credentials.extra_parameters["audience"] = "other"  # type: ignore[index]  # it must fail

    def test_repr(self) -> None:
        """The repr hides the secret, the values of extra parameters and the path of the token URL."""
        credentials = ClientCredentials(
            **FIELDS,
            token_url="https://auth.example.com/canary?canary",
            scope="read",
            extra_parameters={"audience": "canary", "resource": ["canary", "canary"]},
        )

        assert (
            "ClientCredentials(client_id='app', client_secret=***, token_url='https://auth.example.com', "
            "scope=('read',), extra_parameters={'audience': ***, 'resource': ***}, auth_method='client_secret_post', "
            "allow_insecure_http=False)"
        ) == repr(credentials)


class TestWrongFields:
    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"client_id": None}, "must be a string, got None"),
            ({"client_id": SECRET.encode()}, "must be a string, got bytes"),
            ({"client_id": SecretStr(SECRET)}, "must be a string, got SecretStr"),
            ({"client_id": " \n"}, "is empty"),
            ({"client_secret": None}, "is not set"),
            ({"client_secret": SECRET.encode()}, "must be a string, got bytes"),
            ({"client_secret": SecretBytes(SECRET.encode())}, "must be a string, got bytes"),
            ({"client_secret": SecretStr("")}, "is empty"),
            ({"client_secret": LockedSecret()}, "cannot be read: get_secret_value() raised LookupError"),
            ({"client_secret": SecretFile}, "must be a function, got the class SecretFile"),
            ({"client_secret": lambda _: SECRET}, "must be callable with no positional arguments"),
            ({"client_secret": "\ufeff"}, "is empty"),
            ({"client_secret": "  "}, "is empty"),
            ({"token_url": SECRET}, "must be an absolute URL that starts with https:// and names a host"),
            ({"token_url": "http://auth.example.com/"}, "uses plain http to auth.example.com"),
            ({"token_url": f"https://app:{SECRET}@auth.example.com/"}, "must not have a user name or password"),
            ({"token_url": "https://auth.example.com/to\u200bken"}, "has an invisible character, zero width space"),
            ({"scope": b"read"}, "must be a string or strings, got bytes"),
            *(
                ({"scope": scope}, "must be names of visible ASCII characters")
                for scope in (['a"b'], ["a\\b"], ["a b"], ["a\x7f"], ["\u00e9"], [""], [5], ["ok", None])
            ),
            ({"extra_parameters": None}, "must map strings to strings, got None"),
            ({"extra_parameters": f"assertion={SECRET}"}, "must map strings to strings, got str"),
            ({"extra_parameters": [("assertion", SECRET)]}, "must map strings to strings, got list"),
            ({"extra_parameters": {"audience": 5}}, "must map strings to strings or sequences of them, got int"),
            ({"extra_parameters": {"audience": b"x"}}, "must map strings to strings or sequences of them, got bytes"),
            ({"extra_parameters": {"audience": {"a": "b"}}}, "must map strings to strings or sequences of them"),
            ({"extra_parameters": {"audience": ["a", None]}}, "must map strings to strings or sequences of them"),
            ({"extra_parameters": {"audience": []}}, "must not have an empty sequence"),
            ({"extra_parameters": {5: "api"}}, "must map strings to strings or sequences of them, got int"),
            ({"extra_parameters": {"a": "\ud800"}}, "must be text that UTF-8 can encode, got a lone surrogate"),
            ({"extra_parameters": {"\udfff": "a"}}, "must be text that UTF-8 can encode, got a lone surrogate"),
            *(
                ({"extra_parameters": {"audience": "api", name: SECRET}}, f"must not replace {name}")
                for name in ("grant_type", "client_id", "client_secret", "scope")
            ),
            *(
                ({"auth_method": method}, "must be client_secret_post, client_secret_basic, none")
                for method in (SECRET, None, 3, ClientAssertion, object())
            ),
            *(
                ({"client_secret": SECRET, "auth_method": method}, "has no effect")
                for method in ("none", ClientAssertion(lambda: ""))
            ),
            ({"client_secret": None, "auth_method": "client_secret_basic"}, "is not set"),
            *(({"allow_insecure_http": flag}, "must be True or False") for flag in ("false", "true", 0, 1, None)),
        ],
    )
    def test_wrong_field(self, change: dict[str, Any], problem: str) -> None:
        """The error names the field and the problem without showing the value."""
        with pytest.raises(ConfigurationError) as caught:
            ClientCredentials(**FIELDS | change)

        assert next(iter(change)) == caught.value.field
        assert caught.value.problem.startswith(problem)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize("field", ["client_id", "client_secret"])
    @pytest.mark.parametrize("char", ODD_CHARACTERS)
    def test_odd_character(self, field: str, char: str) -> None:
        """An invisible character inside the text is refused and named by its code point."""
        with pytest.raises(ConfigurationError) as caught:
            ClientCredentials(**FIELDS | {field: f"canary{char}x"})

        assert field == caught.value.field
        assert caught.value.problem.startswith("must be one line of visible text, got ")
        assert f"U+{ord(char):04X}" in caught.value.problem
        assert "canary" not in str(caught.value)


class TestCacheKey:
    BASE = FIELDS | {"scope": ["read", "write"], "extra_parameters": {"audience": "api", "resource": "x"}}

    @pytest.mark.parametrize(
        "change",
        [
            {"token_url": "https://other.example/connect/token"},
            {"token_url": f"{DEFAULT_TOKEN_URL}/"},
            {"token_url": f"{DEFAULT_TOKEN_URL}?tenant=1"},
            {"client_id": "other"},
            {"auth_method": "client_secret_basic"},
            *({"scope": scope} for scope in (["read"], ["read", "write", "admin"], ["readwrite"], [])),
            *({"extra_parameters": {"audience": "api", "resource": value}} for value in ("y", ["x", "y"])),
            *({"extra_parameters": value} for value in ({}, {"audience": "api"}, {"audience": "x", "resource": "api"})),
        ],
    )
    def test_different(self, change: dict[str, Any]) -> None:
        """The key depends on token URL, client id, method, scopes and extra parameters."""
        assert ClientCredentials(**self.BASE).cache_key != ClientCredentials(**self.BASE | change).cache_key

    @pytest.mark.parametrize(
        "change",
        [
            {"scope": ["write", "read"]},
            {"scope": "write read write"},
            {"extra_parameters": {"resource": ["x"], "audience": "api"}},
            {"client_secret": "rotated"},
            {"client_secret": ask_vault},
            {"token_url": URL(DEFAULT_TOKEN_URL)},
        ],
        ids=["scope order", "scope string", "parameter order", "secret", "callable", "url"],
    )
    def test_same(self, change: dict[str, Any]) -> None:
        """The key does not depend on the secret or on the order of scopes and parameters."""
        assert ClientCredentials(**self.BASE).cache_key == ClientCredentials(**self.BASE | change).cache_key

    def test_is_a_digest(self) -> None:
        """The key is 64 hexadecimal digits."""
        assert re.fullmatch(r"[0-9a-f]{64}", ClientCredentials(**FIELDS, extra_parameters={"\u00e9": "\0"}).cache_key)

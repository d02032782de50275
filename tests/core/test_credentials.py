"""`simplestore_async._core.credentials`: settings that are checked, and a secret that is read when it is needed."""

from __future__ import annotations

import asyncio
import copy
import functools
import os
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from yarl import URL

from simplestore_async import ClientCredentials, SecretFile
from simplestore_async._core.credentials import DEFAULT_TOKEN_URL
from simplestore_async.errors import ConfigurationError, TokenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

SECRET = "canary-secret"
FIELDS: dict[str, Any] = {"client_id": "app", "client_secret": SECRET}
PREFIX = "SIMPLESTORE_"


class MaskedSecret:
    """What pydantic's SecretStr looks like."""

    def __repr__(self) -> str:
        return "MaskedSecret()"

    def get_secret_value(self) -> str:
        return SECRET


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the environment to these variables, named without their prefix, and no others of ours."""

    def set_to(**variables: str) -> None:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(PREFIX + name, value)

    set_to()
    return set_to


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class TestFields:
    def test_defaults(self) -> None:
        """An id and a secret are enough: the endpoint and the method are the documented ones."""
        credentials = ClientCredentials(client_id="app", client_secret=SECRET)

        assert ("app", SECRET, (), {}, "client_secret_post", False) == (
            credentials.client_id,
            credentials.client_secret,
            credentials.scope,
            dict(credentials.extra_parameters),
            credentials.auth_method,
            credentials.allow_insecure_http,
        )
        assert URL("https://auth.simplestore.io/connect/token") == credentials.token_url

    @pytest.mark.parametrize(
        ("scope", "expected"),
        [
            ("", ()),
            ("read", ("read",)),
            (" read  write ", ("read", "write")),
            (["write", "read"], ("write", "read")),
            (("read", "write", "read"), ("read", "write")),
            ("read read", ("read",)),
            pytest.param(iter(["read"]), ("read",), id="iterator"),
            ("!#[]~", ("!#[]~",)),
        ],
        ids=str,
    )
    def test_scope(self, scope: Any, expected: tuple[str, ...]) -> None:
        """A string is names with spaces between them, never its characters; each name once, in the order given."""
        assert expected == ClientCredentials(**FIELDS, scope=scope).scope

    @pytest.mark.parametrize("text", [" ", "~", "+&=%: \"'\\", "\u00e9", "\x80", "\ud7ff", "\ue000", "\U0001f511"])
    @pytest.mark.parametrize("field", ["client_id", "client_secret"])
    def test_any_text(self, field: str, text: str) -> None:
        """Id and secret may hold any character of a line of text."""
        assert text == getattr(ClientCredentials(**FIELDS | {field: text}), field)

    def test_url_object(self) -> None:
        """`token_url` may be a `yarl.URL`, with a path and a query."""
        url = URL("https://auth.example.com/token?tenant=1")

        assert url == ClientCredentials(**FIELDS, token_url=url).token_url

    def test_insecure_http(self) -> None:
        """Plain http to another machine needs permission, and then is fine."""
        credentials = ClientCredentials(**FIELDS, token_url="http://auth.example.com/", allow_insecure_http=True)

        assert "http" == credentials.token_url.scheme

    def test_extra_parameters_are_copied(self) -> None:
        """What the caller does to its mapping afterwards changes nothing, and nobody can change ours."""
        parameters = {"audience": "api"}
        credentials = ClientCredentials(**FIELDS, extra_parameters=parameters)
        parameters["audience"] = "other"

        assert {"audience": "api"} == dict(credentials.extra_parameters)
        with pytest.raises(TypeError):
            credentials.extra_parameters["audience"] = "other"  # type: ignore[index]  # it must fail

    def test_frozen(self) -> None:
        """Credentials cannot be changed, but changed ones can be made from them."""
        credentials = ClientCredentials(**FIELDS, scope="read", auth_method="client_secret_basic")

        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            credentials.client_id = "other"  # type: ignore[misc]  # it must fail
        assert attrs.evolve(credentials, client_id="other") == ClientCredentials(
            client_id="other", client_secret=SECRET, scope="read", auth_method="client_secret_basic"
        )

    @pytest.mark.parametrize(
        "change",
        [
            {"client_id": "other"},
            {"client_secret": "other"},
            {"token_url": "https://other.example/token"},
            {"scope": "read"},
            {"extra_parameters": {"audience": "other"}},
            {"auth_method": "client_secret_basic"},
            {"allow_insecure_http": True},
        ],
        ids=str,
    )
    def test_equality(self, change: dict[str, Any]) -> None:
        """Credentials with equal fields are equal, and one in a set; a difference in any field tells them apart."""
        fields = FIELDS | {"extra_parameters": {"audience": "api"}}

        assert 1 == len({ClientCredentials(**fields), ClientCredentials(**fields)})
        assert ClientCredentials(**fields) != ClientCredentials(**fields | change)

    def test_positional(self) -> None:
        """Fields are given by name, in a pattern too, so that nobody mixes up id and secret."""
        build: Any = ClientCredentials

        with pytest.raises(TypeError):
            build("app", "secret")
        assert () == ClientCredentials.__match_args__

    def test_repr(self) -> None:
        """The repr shows everything but the secret and the values of extra parameters."""
        credentials = ClientCredentials(**FIELDS, scope="read", extra_parameters={"audience": "api", "resource": "x"})

        assert (
            "ClientCredentials(client_id='app', client_secret=***, "
            "token_url=URL('https://auth.simplestore.io/connect/token'), scope=('read',), "
            "extra_parameters={'audience': ***, 'resource': ***}, auth_method='client_secret_post', "
            "allow_insecure_http=False)"
        ) == repr(credentials)

    @pytest.mark.parametrize(
        ("secret", "expected"),
        [(SECRET, False), (lambda: SECRET, True), (SecretFile("/run/secrets/simplestore"), True)],
        ids=["literal", "callable", "file"],
    )
    def test_has_dynamic_secret(self, secret: Any, expected: bool) -> None:
        """Only a secret that is asked for anew may have changed since."""
        assert expected == ClientCredentials(client_id="app", client_secret=secret).has_dynamic_secret

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            *(
                ({field: value}, [f"{field} {problem}"])
                for field in ("client_id", "client_secret")
                for value, problem in [
                    (None, "must be a string, not NoneType"),
                    (5, "must be a string, not int"),
                    (SECRET.encode(), "must be a string, not bytes"),
                    ("", "is empty: copy it from the Control Panel"),
                    *(
                        (SECRET + char, "holds a line break or another character that is not text: copy it from the")
                        for char in ("\n", "\r", "\0", "\x1f", "\x7f", "\ud800", "\udfff", "\nx")
                    ),
                ]
            ),
            (
                {"client_secret": MaskedSecret()},
                ["client_secret is a MaskedSecret", "client_secret=secret.get_secret_value()"],
            ),
            ({"token_url": ""}, ["token_url", "absolute URL", "https://"]),
            ({"token_url": None}, ["token_url", "string", "NoneType"]),
            ({"token_url": "auth.example.com/token"}, ["token_url", "absolute URL", "https://"]),
            ({"token_url": "http://auth.example.com/token"}, ["token_url", "plain http", "use https"]),
            ({"token_url": f"https://app:{SECRET}@auth.example.com/"}, ["token_url", "user name or password"]),
            ({"token_url": f"https://app:{SECRET}@auth.example.com:99999/"}, ["token_url", "https://host/path"]),
            ({"token_url": "https://auth.example.com/#a"}, ["token_url", "fragment"]),
            ({"scope": None}, ["scope must be a string or strings, not NoneType"]),
            ({"scope": 5}, ["scope must be a string or strings, not int"]),
            *(
                ({"scope": scope}, ["scope", "visible ASCII", "RFC 6749 3.3"])
                for scope in (['a"b'], ["a\\b"], ["a b"], ["a\x7f"], ["\u00e9"], [""], [5], ["ok", None], b"read")
            ),
            ({"extra_parameters": None}, ["extra_parameters", "map strings to strings"]),
            ({"extra_parameters": "audience=api"}, ["extra_parameters", "map strings to strings"]),
            ({"extra_parameters": 5}, ["extra_parameters", "map strings to strings"]),
            ({"extra_parameters": {"audience": 5}}, ["extra_parameters", "map strings to strings"]),
            ({"extra_parameters": {"audience": None}}, ["extra_parameters", "map strings to strings"]),
            ({"extra_parameters": {5: "api"}}, ["extra_parameters", "map strings to strings"]),
            *(
                (
                    {"extra_parameters": {"audience": "api", name: SECRET}},
                    [f"extra_parameters must not replace {name}", "argument of ClientCredentials"],
                )
                for name in ("grant_type", "client_id", "client_secret", "scope")
            ),
            ({"auth_method": "private_key_jwt"}, ["auth_method", "client_secret_post, client_secret_basic"]),
            ({"auth_method": None}, ["auth_method", "client_secret_post, client_secret_basic"]),
        ],
        ids=lambda value: ascii(value)[:70],
    )
    def test_wrong_field(self, change: dict[str, Any], words: list[str]) -> None:
        """A wrong field is named, with what was wrong and what to set; no secret is repeated."""
        with pytest.raises(ConfigurationError) as caught:
            ClientCredentials(**FIELDS | change)

        message = str(caught.value)
        assert words == [word for word in words if word in message]
        assert message.startswith(next(iter(change)))
        assert "canary" not in message


class TestCacheKey:
    BASE = FIELDS | {"scope": ["read", "write"], "extra_parameters": {"audience": "api", "resource": "x"}}

    # case 45
    @pytest.mark.parametrize(
        "change",
        [
            {"token_url": "https://other.example/connect/token"},
            {"token_url": f"{DEFAULT_TOKEN_URL}/"},
            {"token_url": f"{DEFAULT_TOKEN_URL}?tenant=1"},
            {"client_id": "other"},
            {"auth_method": "client_secret_basic"},
            {"scope": ["read"]},
            {"scope": ["read", "write", "admin"]},
            {"scope": ["readwrite"]},
            {"scope": []},
            {"extra_parameters": {"audience": "api"}},
            {"extra_parameters": {"audience": "api", "resource": "y"}},
            {"extra_parameters": {"audience": "x", "resource": "api"}},
            {"extra_parameters": {}},
        ],
        ids=str,
    )
    def test_tells_apart(self, change: dict[str, Any]) -> None:
        """Another endpoint, client, method, set of scopes or extra parameters has another key."""
        assert ClientCredentials(**self.BASE).cache_key != ClientCredentials(**self.BASE | change).cache_key

    # case 45
    @pytest.mark.parametrize(
        "change",
        [
            {"scope": ["write", "read"]},
            {"scope": "write read write"},
            {"extra_parameters": {"resource": "x", "audience": "api"}},
            {"client_secret": "rotated"},
            {"client_secret": lambda: SECRET},
            {"token_url": URL(DEFAULT_TOKEN_URL)},
        ],
        ids=["scope order", "scope string", "parameter order", "secret", "callable", "url"],
    )
    def test_same(self, change: dict[str, Any]) -> None:
        """The order of scopes and parameters does not matter, nor does the secret."""
        assert ClientCredentials(**self.BASE).cache_key == ClientCredentials(**self.BASE | change).cache_key

    def test_is_a_digest(self) -> None:
        """The key is 64 hexadecimal digits, whatever the fields hold."""
        assert re.fullmatch(
            r"[0-9a-f]{64}", ClientCredentials(**FIELDS, extra_parameters={"\u00e9": "\ud800"}).cache_key
        )


class TestFromEnv:
    def test_least(self, environment: Callable[..., None]) -> None:
        """An id and a secret are enough."""
        environment(CLIENT_ID="app", CLIENT_SECRET=SECRET)

        assert ClientCredentials(**FIELDS) == ClientCredentials.from_env()

    def test_all(self, environment: Callable[..., None], tmp_path: Path) -> None:
        """Token URL and scope are read too, and the secret may come from a file."""
        path = write(tmp_path / "secret", SECRET.encode())
        environment(
            CLIENT_ID="app",
            CLIENT_SECRET_FILE=str(path),
            TOKEN_URL="https://auth.example.com/token",
            SCOPE="read write",
        )

        assert ClientCredentials.from_env() == ClientCredentials(
            client_id="app",
            client_secret=SecretFile(path),
            token_url="https://auth.example.com/token",
            scope=("read", "write"),
        )

    def test_empty_counts_as_unset(self, environment: Callable[..., None]) -> None:
        """A variable that is there and empty is as good as none."""
        environment(CLIENT_ID="app", CLIENT_SECRET=SECRET, CLIENT_SECRET_FILE="", TOKEN_URL="", SCOPE="")

        assert ClientCredentials(**FIELDS) == ClientCredentials.from_env()

    def test_file_beside_an_empty_secret(self, environment: Callable[..., None], tmp_path: Path) -> None:
        """An empty secret beside a file is not both."""
        path = write(tmp_path / "secret", SECRET.encode())
        environment(CLIENT_ID="app", CLIENT_SECRET="", CLIENT_SECRET_FILE=str(path))

        assert SecretFile(path) == ClientCredentials.from_env().client_secret

    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({}, ["SIMPLESTORE_CLIENT_ID and SIMPLESTORE_CLIENT_SECRET not set", "Control Panel", "_SECRET_FILE"]),
            ({"CLIENT_ID": "app"}, ["SIMPLESTORE_CLIENT_SECRET not set", "Control Panel", "_SECRET_FILE"]),
            ({"CLIENT_SECRET": SECRET}, ["SIMPLESTORE_CLIENT_ID not set", "Control Panel"]),
            ({"CLIENT_ID": "", "CLIENT_SECRET": SECRET}, ["SIMPLESTORE_CLIENT_ID not set", "Control Panel"]),
            ({"CLIENT_ID": "app", "CLIENT_SECRET": ""}, ["SIMPLESTORE_CLIENT_SECRET not set", "Control Panel"]),
            (
                {"CLIENT_ID": "app", "CLIENT_SECRET": SECRET, "CLIENT_SECRET_FILE": "/nowhere"},
                ["SIMPLESTORE_CLIENT_SECRET and SIMPLESTORE_CLIENT_SECRET_FILE are both set: unset one"],
            ),
            (
                {"CLIENT_ID": "app", "CLIENT_SECRET": f"{SECRET}\n"},
                ["SIMPLESTORE_CLIENT_SECRET holds a line break", "Control Panel"],
            ),
            (
                {"CLIENT_ID": "app\n", "CLIENT_SECRET": SECRET},
                ["SIMPLESTORE_CLIENT_ID holds a line break", "Control Panel"],
            ),
            (
                {"CLIENT_ID": "app", "CLIENT_SECRET": SECRET, "TOKEN_URL": "auth.example.com"},
                ["SIMPLESTORE_TOKEN_URL must be an absolute URL", "https://"],
            ),
            (
                {"CLIENT_ID": "app", "CLIENT_SECRET": SECRET, "TOKEN_URL": "http://auth.example.com"},
                ["SIMPLESTORE_TOKEN_URL uses plain http", "use https"],
            ),
            (
                {"CLIENT_ID": "app", "CLIENT_SECRET": SECRET, "TOKEN_URL": f"https://app:{SECRET}@auth.example.com"},
                ["SIMPLESTORE_TOKEN_URL must not hold a user name or password"],
            ),
            (
                {"CLIENT_ID": "app", "CLIENT_SECRET": SECRET, "SCOPE": '"read"'},
                ["SIMPLESTORE_SCOPE must be names", "RFC 6749 3.3"],
            ),
        ],
        ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
    )
    def test_wrong_variable(
        self, environment: Callable[..., None], variables: dict[str, str], words: list[str]
    ) -> None:
        """A missing or wrong variable is named, with what to set; no secret is repeated."""
        environment(**variables)

        with pytest.raises(ConfigurationError) as caught:
            ClientCredentials.from_env()

        message = str(caught.value)
        assert words == [word for word in words if word in message]
        assert "canary" not in message

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, ["No such file"]),
            (b"", ["is empty"]),
            (b"canary\n\n", ["line break"]),
            (b"canary\xff", ["not UTF-8"]),
        ],
        ids=["missing", "empty", "two newlines", "latin-1"],
    )
    def test_wrong_file(
        self, environment: Callable[..., None], tmp_path: Path, content: bytes | None, words: list[str]
    ) -> None:
        """A secret file that is missing or wrong is found out at once; the variable and the path are named."""
        path = tmp_path / "secret"
        if content is not None:
            write(path, content)
        environment(CLIENT_ID="app", CLIENT_SECRET_FILE=str(path))

        with pytest.raises(ConfigurationError) as caught:
            ClientCredentials.from_env()

        message = str(caught.value)
        expected = ["SIMPLESTORE_CLIENT_SECRET_FILE", str(path), *words]
        assert expected == [word for word in expected if word in message]
        assert "canary" not in message

    # case 55
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickles_as_a_recipe(self, environment: Callable[..., None], protocol: int) -> None:
        """The pickle holds no value; who loads it reads its own environment."""
        environment(CLIENT_ID="canary-id", CLIENT_SECRET=SECRET, SCOPE="canary-scope")
        pickled = pickle.dumps(ClientCredentials.from_env(), protocol)
        environment(CLIENT_ID="other-id", CLIENT_SECRET="other-secret")

        assert b"canary" not in pickled
        expected = ClientCredentials(client_id="other-id", client_secret="other-secret")
        assert expected == pickle.loads(pickled)

    def test_pickles_again(self, environment: Callable[..., None]) -> None:
        """What was unpickled can be pickled in turn."""
        environment(CLIENT_ID="app", CLIENT_SECRET=SECRET)
        once = pickle.loads(pickle.dumps(ClientCredentials.from_env()))

        assert once == pickle.loads(pickle.dumps(once))

    # case 55
    @pytest.mark.parametrize("change", [{"client_id": "other"}, {"client_secret": "other"}, {"scope": "read"}], ids=str)
    def test_changed_is_no_recipe(self, environment: Callable[..., None], change: dict[str, Any]) -> None:
        """Credentials changed after `from_env()` are no longer what the environment names: pickling is refused."""
        environment(CLIENT_ID="app", CLIENT_SECRET=SECRET)
        credentials = attrs.evolve(ClientCredentials.from_env(), **change)

        with pytest.raises(TypeError, match=r"use ClientCredentials\.from_env\(\) in each process"):
            pickle.dumps(credentials)

    def test_pickle_without_the_environment(self, environment: Callable[..., None]) -> None:
        """Where the environment lacks the variables, loading says so in the user's terms."""
        environment(CLIENT_ID="app", CLIENT_SECRET=SECRET)
        pickled = pickle.dumps(ClientCredentials.from_env())
        environment()

        with pytest.raises(ConfigurationError, match="SIMPLESTORE_CLIENT_ID and SIMPLESTORE_CLIENT_SECRET not set"):
            pickle.loads(pickled)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    def test_copy(self, environment: Callable[..., None], duplicate: Any) -> None:
        """A copy is the credentials themselves."""
        environment(CLIENT_ID="app", CLIENT_SECRET=SECRET)
        credentials = ClientCredentials.from_env()

        assert credentials is duplicate(credentials)


class TestSecretFile:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"secret", "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\n", "secret"),
            (b" secret \n", " secret "),
            ("s\u00e9cret\n".encode(), "s\u00e9cret"),
            (b'+&=%: "', '+&=%: "'),
        ],
    )
    def test_content(self, tmp_path: Path, content: bytes, expected: str) -> None:
        """One newline at the end is dropped, and nothing else."""
        assert expected == SecretFile(write(tmp_path / "secret", content))()

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", ["is empty", "Control Panel"]),
            (b"\n", ["is empty", "Control Panel"]),
            (b"\r\n", ["is empty", "Control Panel"]),
            (b"canary\n\n", ["line break", "Control Panel"]),
            (b"canary\nsecond", ["line break", "Control Panel"]),
            (b"canary\0", ["not text", "Control Panel"]),
            (b"canary\xff", ["cannot read", "not UTF-8"]),
            ("canary".encode("utf-16"), ["cannot read", "not UTF-8"]),
        ],
        ids=["empty", "newline", "crlf", "two newlines", "two lines", "nul", "latin-1", "utf-16"],
    )
    def test_wrong_content(self, tmp_path: Path, content: bytes, words: list[str]) -> None:
        """Content that cannot be a secret is an error that names the file, and repeats nothing of it."""
        path = write(tmp_path / "secret", content)

        with pytest.raises(ConfigurationError) as caught:
            SecretFile(path)()

        message = str(caught.value)
        assert [str(path), *words] == [word for word in (str(path), *words) if word in message]
        assert "canary" not in message

    def test_missing(self, tmp_path: Path) -> None:
        """A missing file is an error that names it, in the system's words."""
        with pytest.raises(ConfigurationError) as caught:
            SecretFile(tmp_path / "secret")()

        assert f"cannot read the client secret from {tmp_path / 'secret'}: No such file or directory" == str(
            caught.value
        )

    def test_folder(self, tmp_path: Path) -> None:
        """A folder is an error that names it."""
        with pytest.raises(ConfigurationError) as caught:
            SecretFile(tmp_path)()

        assert f"cannot read the client secret from {tmp_path}: Is a directory" == str(caught.value)

    def test_impossible_path(self) -> None:
        """A path that no file can have is an error about it."""
        with pytest.raises(ConfigurationError, match="cannot read the client secret from "):
            SecretFile("a\0b")()

    @pytest.mark.parametrize("path", ["/run/secrets/simplestore", Path("/run/secrets/simplestore")])
    def test_path(self, path: str | Path) -> None:
        """The path may be a string; the repr shows it."""
        secret_file = SecretFile(path)

        assert Path("/run/secrets/simplestore") == secret_file.path
        assert repr(Path("/run/secrets/simplestore")) in repr(secret_file)

    # case 63
    def test_symlink_swap(self, tmp_path: Path) -> None:
        """A file that Kubernetes rotates (..data is swapped) is read anew each time; its mode is 0644, as there."""
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            write(tmp_path / name / "secret", name.encode()).chmod(0o644)
        (tmp_path / "..data").symlink_to("first")
        (tmp_path / "secret").symlink_to("..data/secret")
        secret_file = SecretFile(tmp_path / "secret")
        before = secret_file()

        (tmp_path / "..data_tmp").symlink_to("second")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

        assert ("first", "second") == (before, secret_file())


class AsyncVault:
    async def __call__(self) -> str:
        return SECRET


class LaterSecret:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return SECRET


async def read_vault(secret: str = SECRET) -> str:
    await asyncio.sleep(0)
    return secret


def fail_with_secret() -> str:
    raise LookupError(SECRET)


async def fail_later_with_secret(kind: type[Exception] = LookupError) -> str:
    raise kind(SECRET)


def give_masked() -> MaskedSecret:
    return MaskedSecret()


def with_secret(secret: str | Callable[[], Any]) -> ClientCredentials:
    return ClientCredentials(client_id="app", client_secret=secret)


class TestReadSecret:
    @pytest.mark.parametrize(
        "secret",
        [
            SECRET,
            lambda: SECRET,
            read_vault,
            functools.partial(read_vault, SECRET),
            lambda: read_vault(SECRET),
            LaterSecret,
            AsyncVault(),
            AsyncVault().__call__,
        ],
        ids=["literal", "plain", "async", "partial", "lambda", "awaitable", "object", "method"],
    )
    async def test_every_kind(self, secret: str | Callable[[], str | Awaitable[str]]) -> None:
        """A secret may be a string, or a callable of any kind; what comes out hides itself."""
        read = await with_secret(secret).read_secret()

        assert read == SECRET
        assert "'***'" == repr(read)

    async def test_file(self, tmp_path: Path) -> None:
        """A secret file is read for every renewal."""
        path = write(tmp_path / "secret", b"first\n")
        credentials = with_secret(SecretFile(path))
        first = await credentials.read_secret()
        write(path, b"second\n")

        assert ("first", "second") == (first, await credentials.read_secret())

    async def test_asked_once_each_time(self) -> None:
        """A callable is asked once for each reading."""
        secrets = iter(["first", "second"])
        credentials = with_secret(lambda: next(secrets))

        assert ["first", "second"] == [await credentials.read_secret(), await credentials.read_secret()]

    async def test_plain_callable_leaves_the_loop_alone(self) -> None:
        """A plain callable runs in another thread than the loop; the loop goes on while it blocks."""
        go_on = threading.Event()
        threads: list[int] = []

        def block() -> str:
            assert go_on.wait(10)
            threads.append(threading.get_ident())
            return SECRET

        reading = asyncio.create_task(with_secret(block).read_secret())
        await asyncio.sleep(0)
        go_on.set()  # reached only because the loop was not blocked

        assert SECRET == await reading
        assert [threading.get_ident()] != threads
        assert 1 == len(threads)

    async def test_async_callable_stays_on_the_loop(self) -> None:
        """An async callable runs in the loop's own thread, where its clients live."""

        async def read() -> str:
            return str(threading.get_ident())

        assert str(threading.get_ident()) == await with_secret(read).read_secret()

    @pytest.mark.parametrize("secret", [AsyncVault(), AsyncVault().__call__], ids=["object", "method"])
    async def test_async_callable_needs_no_thread(self, secret: Callable[[], Awaitable[str]]) -> None:
        """An async callable is called by the loop itself: one that waits for nothing is done in the task's one step."""
        reading = asyncio.create_task(with_secret(secret).read_secret())
        await asyncio.sleep(0)
        is_done = reading.done()

        assert (True, SECRET) == (is_done, await reading)

    # case 61
    async def test_default_executor_is_full(self) -> None:
        """A plain callable needs none of the loop's own threads: all of them may be waiting for this token."""
        loop = asyncio.get_running_loop()
        free = threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        waiting = loop.run_in_executor(None, free.wait, 10)

        async with asyncio.timeout(5):
            secret = await with_secret(lambda: SECRET).read_secret()
        free.set()

        assert SECRET == secret
        assert await waiting

    async def test_thread_ends(self) -> None:
        """The thread does not outlive the reading."""
        threads: list[threading.Thread] = []

        def read() -> str:
            threads.append(threading.current_thread())
            return SECRET

        await with_secret(read).read_secret()
        threads[0].join(5)

        assert [False] == [thread.is_alive() for thread in threads]

    # case 55
    @pytest.mark.parametrize(
        ("secret", "problem"),
        [
            (fail_with_secret, "it raised LookupError"),
            (fail_later_with_secret, "it raised LookupError"),
            (lambda: fail_later_with_secret(OSError), "it raised OSError"),
            (lambda: int(SECRET), "it raised ValueError"),
            (lambda: None, "must be a string, not NoneType"),
            (SECRET.encode, "must be a string, not bytes"),
            (lambda: "", "is empty: copy it from the Control Panel"),
            (lambda: f"{SECRET}\n", "holds a line break"),
            (give_masked, "get_secret_value"),
            (lambda _: SECRET, "it raised TypeError"),
        ],
        ids=[
            "raises",
            "async raises",
            "awaitable raises",
            "value",
            "none",
            "bytes",
            "empty",
            "line",
            "masked",
            "arity",
        ],
    )
    async def test_no_secret(self, secret: Callable[..., Any], problem: str) -> None:
        """A callable that fails or gives no secret is a TokenError that says so; nothing that it raised hangs on it."""
        with pytest.raises(TokenError) as caught:
            await with_secret(secret).read_secret()

        error = caught.value
        assert "No token: the client_secret callable gave no secret: " in str(error)
        assert problem in str(error)
        assert "canary" not in f"{error} {error!r}"
        assert (True, None, None) == (error.retryable, error.__cause__, error.__context__)

    async def test_no_secret_in_the_file(self, tmp_path: Path) -> None:
        """A secret file that cannot be read is a TokenError that names it, and may be there next time."""
        with pytest.raises(TokenError) as caught:
            await with_secret(SecretFile(tmp_path / "secret")).read_secret()

        assert (
            "No token: the client secret gave no secret: "
            f"cannot read the client secret from {tmp_path / 'secret'}: No such file or directory"
        ) == str(caught.value)
        assert caught.value.retryable

    async def test_stop_iteration(self) -> None:
        """StopIteration from a plain callable is a failure like any other, though no future can carry it."""
        nothing: list[str] = []

        async with asyncio.timeout(2):
            with pytest.raises(TokenError, match="gave no secret: it raised "):
                await with_secret(lambda: next(iter(nothing))).read_secret()

    async def test_cancelled(self) -> None:
        """Cancelling the reading cancels an async callable, and the cancellation is not wrapped."""
        started = asyncio.Event()
        ended: list[str] = []

        async def read() -> str:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            return SECRET

        reading = asyncio.create_task(with_secret(read).read_secret())
        await started.wait()
        reading.cancel()

        with pytest.raises(asyncio.CancelledError):
            await reading
        assert ["cancelled"] == ended

    async def test_cancelled_while_a_plain_callable_blocks(self) -> None:
        """Cancelling the reading does not wait for a plain callable to return."""
        loop = asyncio.get_running_loop()
        started, go_on = asyncio.Event(), threading.Event()
        returned: list[bool] = []

        def block() -> str:
            loop.call_soon_threadsafe(started.set)
            returned.append(go_on.wait(5))
            return SECRET

        reading = asyncio.create_task(with_secret(block).read_secret())
        await started.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        returned_before = list(returned)
        go_on.set()

        assert [] == returned_before

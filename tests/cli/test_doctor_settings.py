"""`simplestore doctor` on settings and secret: a row per mistake, with finding and advice."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from tests.support.api_servers import refusing_url
from tests.support.command import simplestore
from tests.support.doctor import assert_row, doctor
from tests.support.platforms import needs_case, needs_permissions, needs_posix_files
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async.cli._doctor._check import Result

PANEL = "Control Panel"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "SIMPLESTORE_CLIENT_ID": "app",
        "SIMPLESTORE_CLIENT_SECRET": SECRET,
        "SIMPLESTORE_TOKEN_URL": "https://auth.invalid/connect/token",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }


async def row_of(name: str, environment: dict[str, str], **settings: Any) -> Result:
    """Return the result for a setting."""
    return (await doctor("Settings", environment=environment, **settings))[f"Settings: {name}"]


async def test_right_ones(environment: dict[str, str]) -> None:
    """Correct settings are shown with their source and, except for the secret, their value."""
    rows = await doctor(
        "Settings", environment=environment, SCOPE="orders  products", BASE_URL="https://api.invalid/v1"
    )

    for name, finding in {
        "client id": "app, from SIMPLESTORE_CLIENT_ID",
        "client secret": "set, from SIMPLESTORE_CLIENT_SECRET",
        "token URL": "https://auth.invalid/connect/token, from SIMPLESTORE_TOKEN_URL",
        "scope": "orders products, from SIMPLESTORE_SCOPE",
        "base URL": "https://api.invalid/v1/, from SIMPLESTORE_BASE_URL",
        "trusted CAs": "those of this system",
    }.items():
        assert ("ok", finding) == (rows[f"Settings: {name}"].state, rows[f"Settings: {name}"].finding)
    assert {"source": "SIMPLESTORE_CLIENT_SECRET"} == rows["Settings: client secret"].facts


async def test_client_id_file(environment: dict[str, str], tmp_path: Path) -> None:
    """The client id may come from a file; a missing file fails."""
    path = tmp_path / "id"
    path.write_text("my-app\n")
    settings = {"CLIENT_ID": "", "CLIENT_ID_FILE": str(path)}
    row = await row_of("client id", environment, **settings)
    assert_row(row, state="ok", says="my-app, from the file of SIMPLESTORE_CLIENT_ID_FILE")
    path.unlink()
    assert_row(await row_of("client id", environment, **settings), state="failed", says="SIMPLESTORE_CLIENT_ID_FILE")


async def test_none() -> None:
    """Without settings: missing ones fail, optional ones and those with a default pass."""
    rows = await doctor("Settings", environment={})

    assert_row(rows["Settings: client id"], state="failed", says="SIMPLESTORE_CLIENT_ID is not set", advises=PANEL)
    assert_row(rows["Settings: client secret"], state="failed", says="SIMPLESTORE_CLIENT_SECRET is not set")
    assert "SIMPLESTORE_CLIENT_SECRET_FILE" in rows["Settings: client secret"].advice
    assert_row(rows["Settings: token URL"], state="ok", says="https://auth.simplestore.io/connect/token, the default")
    assert_row(rows["Settings: scope"], state="ok", says="none requested")
    assert_row(rows["Settings: base URL"], state="skipped", says="not set", advises="set it to check the API as well")


MISTAKES: dict[str, tuple[dict[str, str], str, str, str, str]] = {
    "id empty": ({"CLIENT_ID": ""}, "client id", "failed", "SIMPLESTORE_CLIENT_ID is empty, which counts as", PANEL),
    "id broken": ({"CLIENT_ID": "a\nb"}, "client id", "failed", "SIMPLESTORE_CLIENT_ID", ""),
    "id quoted": ({"CLIENT_ID": '"app"'}, "client id", "warning", "quotation marks", "remove them"),
    "secret empty": ({"CLIENT_SECRET": ""}, "client secret", "failed", "is empty, which counts as not set", PANEL),
    "secret broken": ({"CLIENT_SECRET": "can\nary"}, "client secret", "failed", "SIMPLESTORE_CLIENT_SECRET", ""),
    "secret quoted": ({"CLIENT_SECRET": "'canary'"}, "client secret", "warning", "with quotation marks", PANEL),
    "secret is id": ({"CLIENT_SECRET": "app"}, "client secret", "warning", "the same as the client id", PANEL),
    "two secrets": ({"CLIENT_SECRET_FILE": "/x"}, "client secret", "failed", "are both set", "unset one of them"),
    "token URL odd": ({"TOKEN_URL": "auth.x"}, "token URL", "failed", "SIMPLESTORE_TOKEN_URL", ""),
    "token URL http": ({"TOKEN_URL": "http://a.invalid/"}, "token URL", "failed", "SIMPLESTORE_TOKEN_URL", ""),
    "token URL user": ({"TOKEN_URL": "https://u:canary@a.x/"}, "token URL", "failed", "SIMPLESTORE_TOKEN_URL", ""),
    "scope quoted": ({"SCOPE": '"orders"'}, "scope", "failed", "SIMPLESTORE_SCOPE", ""),
    "base URL odd": ({"BASE_URL": "https://"}, "base URL", "failed", "SIMPLESTORE_BASE_URL", ""),
    "base URL http": ({"BASE_URL": "http://a.invalid/"}, "base URL", "failed", "SIMPLESTORE_BASE_URL", ""),
    "base URL query": ({"BASE_URL": "https://a.x/?b=c"}, "base URL", "failed", "not have a query", "remove the query"),
    "misspelt": ({"CLEINT_ID": "x"}, "other variables", "warning", "SIMPLESTORE_CLEINT_ID", "SIMPLESTORE_CLIENT_ID?"),
    "short": ({"SECRET": "canary"}, "other variables", "warning", "SIMPLESTORE_SECRET", "SIMPLESTORE_CLIENT_SECRET?"),
    "foreign": ({"FOO": "x"}, "other variables", "ok", "not read by this package: SIMPLESTORE_FOO", ""),
    "byte order mark": ({"CLIENT_ID": "\ufeffapp"}, "characters", "warning", "CLIENT_ID has U+FEFF", "again"),
    "no-break space": ({"TOKEN_URL": "https://a.invalid/\xa0"}, "characters", "warning", "has U+00A0", "again"),
    "zero-width space": ({"CLIENT_SECRET": "can\u200bary"}, "characters", "warning", "SECRET has U+200B", "again"),
    "trailing blank": ({"BASE_URL": "https://a.invalid/ "}, "characters", "warning", "has a blank at its", "again"),
    "swapped URLs": (
        {"TOKEN_URL": "https://a.invalid/v1", "BASE_URL": "https://a.invalid/connect/token"},
        *("base URL", "failed", "looks like a token endpoint's URL", "swap SIMPLESTORE_TOKEN_URL and"),
    ),
    "token URL as base": (
        {"TOKEN_URL": "https://a.invalid/token", "BASE_URL": "https://a.invalid/token/"},
        *("base URL", "failed", "looks like a token endpoint's URL", "the root of the API"),
    ),
}


@pytest.mark.parametrize("row", MISTAKES.values(), ids=MISTAKES)
async def test_mistake(environment: dict[str, str], row: Any) -> None:
    """Each mistake has a row with finding and advice; the values of secrets are in none."""
    settings, name, state, says, advises = row
    rows = await doctor("Settings", environment=environment, **settings)

    assert_row(rows[f"Settings: {name}"], state=state, says=says, advises=advises)
    assert "canary" not in str(rows)


@pytest.mark.parametrize(
    "name", [pytest.param("simplestore_client_id", marks=needs_case), "SIMPLE_STORE_CLIENT_ID", "SIMPELSTORE_CLIENT_ID"]
)
async def test_misspelt_prefix(environment: dict[str, str], name: str) -> None:
    """A variable whose prefix is misspelt is reported."""
    row = await row_of("other variables", environment | {name: "x"})
    assert_row(row, state="warning", says=name, advises="mean SIMPLESTORE_CLIENT_ID?")


@pytest.mark.parametrize(
    "placeholder", ["changeme", "CHANGE_ME", "…", "xxxx", "your-client-secret-here", "<secret>", "${SECRET}", "TODO"]
)
async def test_placeholder(environment: dict[str, str], placeholder: str) -> None:
    """A placeholder in place of a secret is reported and not shown."""
    row = await row_of("client secret", environment, CLIENT_SECRET=placeholder)

    assert_row(row, state="warning", says="looks like a placeholder", advises=PANEL)
    assert placeholder not in row.finding + row.advice


async def test_proxies(environment: dict[str, str]) -> None:
    """A proxy is reported by its variable; its URL is never shown, even if it is unreachable."""
    environment["HTTPS_PROXY"] = f"http://user:canary@127.0.0.1:{URL(refusing_url()).port}"
    rows = await doctor("Settings", "Token endpoint", environment=environment)

    row = rows["Settings: proxies"]
    assert_row(row, state="warning", says="HTTPS_PROXY used by this command", advises="trust_env=True")
    assert ["HTTPS_PROXY"] == row.facts["names"]
    row = rows["Token endpoint: proxy"]
    assert_row(row, state="failed", says="https_proxy: Connection refused", advises="https_proxy")
    assert_row(rows["Token endpoint: token"], state="skipped", says="because of Token endpoint: proxy")
    assert "canary" not in str(rows)
    assert "Token endpoint: DNS" not in rows


async def test_unused_proxy(environment: dict[str, str]) -> None:
    """A proxy that is not for these hosts is no warning."""
    environment |= {"HTTPS_PROXY": "http://proxy.invalid:3128", "no_proxy": "auth.invalid", "http_proxy": ""}
    row = await row_of("proxies", environment)
    assert_row(row, state="ok", says="HTTPS_PROXY set; not used for these hosts")
    assert "proxy.invalid" not in str(row)


async def test_invalid_proxy(environment: dict[str, str]) -> None:
    """A proxy with an invalid URL fails."""
    rows = await doctor("Settings", environment=environment | {"HTTPS_PROXY": "canary"})
    assert_row(rows["Settings: proxies"], state="failed", says="https_proxy must be the URL of an HTTP proxy")
    assert "canary" not in str(rows)


class TestMisplacedSecret:
    """The secret in a variable that is shown is not shown."""

    async def test_as_file(self, environment: dict[str, str]) -> None:
        """In the variable for the path of its file, by any command."""
        secret = "a/b-canary-c"
        environment |= {"SIMPLESTORE_CLIENT_SECRET": "", "SIMPLESTORE_CLIENT_SECRET_FILE": secret}
        for arguments in ["doctor", "-v"], ["doctor", "--json"], ["--debug", "token"], ["token", "--json"]:
            outcome = await simplestore(*arguments, environment=environment)
            assert secret not in outcome.stdout + outcome.stderr
            assert "SIMPLESTORE_CLIENT_SECRET_FILE" in outcome.stdout + outcome.stderr

    async def test_elsewhere(self, environment: dict[str, str]) -> None:
        """As the value of another variable, next to its own."""
        secret = "s3cr3t-0f-the-shop"
        environment |= {f"SIMPLESTORE_{name}": secret for name in ("CLIENT_ID", "CLIENT_SECRET", "SCOPE", "FOO")}
        environment["SIMPLESTORE_TOKEN_URL"] = f"https://{secret}.invalid/token"
        environment["SIMPLESTORE_BASE_URL"] = f"https://a.invalid/{secret}"
        for options in ["-v"], ["--json"]:
            outcome = await simplestore("doctor", *options, environment=environment)
            assert outcome.stdout.count("***") >= 4
            assert secret not in outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE: No such file"),
        ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE holds no certificate"),
        ({"SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_DIR names no directory"),
    ],
)
async def test_trusted_cas(environment: dict[str, str], changes: dict[str, str], says: str) -> None:
    """Certificates that OpenSSL skips as unreadable are reported."""
    row = await row_of("trusted CAs", environment | changes)
    assert_row(row, state="warning", says=says, advises="unset it for the system's")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def on_posix(*row: Any) -> Any:
    return pytest.param(row, marks=needs_posix_files)


class TestSecretFile:
    @pytest.fixture
    def path(self, tmp_path: Path, environment: dict[str, str]) -> Path:
        path = tmp_path / "secret"
        path.write_text("canary\n")
        path.chmod(0o600)
        environment |= {"SIMPLESTORE_CLIENT_SECRET": "", "SIMPLESTORE_CLIENT_SECRET_FILE": str(path)}
        return path

    async def test_right_one(self, environment: dict[str, str], path: Path) -> None:
        """The row has the file's path and mode, and nothing of its content."""
        row = await row_of("client secret", environment)

        mode = {"mode": "0600", "owner_id": os.geteuid()} if os.name == "posix" else {}
        assert ("ok", f"set, from the file {path}{' (mode 0600)' if mode else ''}") == (row.state, row.finding)
        source = {"source": "SIMPLESTORE_CLIENT_SECRET_FILE", "path": str(path)}
        assert source | mode | {"is_symlink": False} == row.facts

    async def test_tilde(self, environment: dict[str, str], path: Path) -> None:
        """`~` is expanded, as in a program."""
        row = await row_of("client secret", environment, CLIENT_SECRET_FILE="~/secret")
        assert_row(row, state="ok", says=f"set, from the file {path}")

    @needs_posix_files
    async def test_kubernetes(self, environment: dict[str, str], path: Path) -> None:
        """A symlink to a world-readable file, as Kubernetes mounts secrets, passes."""
        target = path.rename(path.with_name("..data"))
        target.chmod(0o644)
        path.symlink_to(target)
        row = await row_of("client secret", environment)

        assert_row(row, state="ok", says="(mode 0644)")
        assert row.facts["is_symlink"]

    async def test_base64(self, environment: dict[str, str], path: Path) -> None:
        """Text in base64, as kubectl shows it, is a warning; random characters of its alphabet are none."""
        for secret in "aHVzaC1odXNo", "aHVzaC1odXNoCg==", "aHVzaC1odXNo\n":
            path.write_text(secret)
            row = await row_of("client secret", environment)
            assert_row(row, state="warning", says="looks like text in base64", advises="decode it")
        path.write_text("9mZ8mPq4XbT1u0Kd")
        assert "ok" == (await row_of("client secret", environment)).state

    @pytest.mark.parametrize(
        "row",
        [
            (lambda path: path.unlink(), "failed", "No such file", "check the path and its permissions"),
            (lambda path: path.write_text(""), "failed", "", ""),
            (lambda path: path.write_text("can\nary"), "failed", "", ""),
            (lambda path: path.write_bytes(b"canary\xff"), "failed", "", ""),
            (lambda path: path.write_text("changeme"), "warning", "looks like a placeholder", PANEL),
            on_posix(lambda path: path.chmod(0o622), "warning", "is writable by others (mode 0622)", "chmod go-w"),
            (lambda path: (path.unlink(), path.mkdir()), "failed", "it is a directory", ""),
            on_posix(make_fifo, "failed", "it is not a regular file", ""),
        ],
    )
    async def test_mistake(self, environment: dict[str, str], path: Path, row: Any) -> None:
        """A file without a usable secret, or with an odd one, is reported by path and reason."""
        spoil, state, says, advises = row
        spoil(path)
        result = await row_of("client secret", environment)

        assert_row(result, state=state, says=says, advises=advises)
        assert str(path) in result.finding
        assert "canary" not in str(result)

    @needs_permissions
    async def test_forbidden(self, environment: dict[str, str], path: Path) -> None:
        """For an unreadable file the advice names the user and the permission."""
        path.chmod(0)
        row = await row_of("client secret", environment)
        assert_row(row, state="failed", says="Permission denied", advises=f"let user {os.geteuid()} read {path}")

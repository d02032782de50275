"""What `simplestore doctor` says of settings and secret: a row for each mistake, what is said, and what to do."""
# ruff: noqa: ASYNC240 - these tests are about files, and share their loop with nobody

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import simplestore_async
from simplestore_async.cli._doctor._settings import KNOWN
from tests.support.api_servers import refusing_url
from tests.support.doctor import NEUTRAL, assert_row, changed_doctor, doctor
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

PANEL = "Control Panel"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Credentials for a place where nobody listens: these tests look at settings only."""
    return NEUTRAL | {
        "SIMPLESTORE_CLIENT_ID": "app",
        "SIMPLESTORE_CLIENT_SECRET": SECRET,
        "SIMPLESTORE_TOKEN_URL": f"{refusing_url()}/connect/token",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }


async def test_right_ones(environment: dict[str, str]) -> None:
    """Of settings that are right the value is told, but the secret's, and where each comes from."""
    environment |= {"SIMPLESTORE_SCOPE": "orders  products", "SIMPLESTORE_BASE_URL": "https://api.invalid/v1"}
    rows = await doctor(environment=environment)

    for name, says in {
        "client id": "app, from SIMPLESTORE_CLIENT_ID",
        "client secret": "set, from SIMPLESTORE_CLIENT_SECRET",
        "token URL": f"{environment['SIMPLESTORE_TOKEN_URL']}, from SIMPLESTORE_TOKEN_URL",
        "scope": "orders products, from SIMPLESTORE_SCOPE",
        "base URL": "https://api.invalid/v1, from SIMPLESTORE_BASE_URL",
        "trusted CAs": "those that OpenSSL finds on this system",
    }.items():
        assert ("ok", says, "") == (rows[f"Settings: {name}"].state, rows[f"Settings: {name}"].finding, "")
    assert {"source": "SIMPLESTORE_CLIENT_SECRET"} == rows["Settings: client secret"].facts


async def test_none(tmp_path: Path) -> None:
    """Without settings: what is missing fails, what has a default or is not needed does not."""
    # The default host is another's: the tests must not find it.
    change = "import socket\ndef fail(*_, **__): raise socket.gaierror(-2, 'unknown')\nsocket.getaddrinfo = fail"
    rows = await changed_doctor(change, environment=NEUTRAL | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})

    assert_row(rows["Settings: client id"], state="failed", says="SIMPLESTORE_CLIENT_ID is not set", advises=PANEL)
    assert_row(rows["Settings: client secret"], state="failed", says="SIMPLESTORE_CLIENT_SECRET is not set")
    assert "SIMPLESTORE_CLIENT_SECRET_FILE" in rows["Settings: client secret"].advice
    assert_row(rows["Settings: token URL"], state="ok", says="https://auth.simplestore.io/connect/token, the default")
    assert_row(rows["Settings: scope"], state="ok", says="none is asked for")
    assert_row(rows["Settings: base URL"], state="skipped", says="not set", advises="set it to check the API, too")
    assert_row(rows["Token endpoint: token"], state="skipped", says="because of Settings: client id")


# The changed variables; the check; its state; what it says; what it advises.
MISTAKES: dict[str, tuple[dict[str, str], str, str, str, str]] = {
    "id empty": ({"CLIENT_ID": ""}, "client id", "failed", "SIMPLESTORE_CLIENT_ID is empty, which counts as", PANEL),
    "id broken": ({"CLIENT_ID": "a\nb"}, "client id", "failed", "SIMPLESTORE_CLIENT_ID holds a line break", PANEL),
    "id quoted": ({"CLIENT_ID": '"app"'}, "client id", "warning", "spaces or quotation marks", "take them out"),
    "id spaced": ({"CLIENT_ID": "app "}, "client id", "warning", "spaces or quotation marks", "take them out"),
    "secret empty": ({"CLIENT_SECRET": ""}, "client secret", "failed", "is empty, which counts as not set", PANEL),
    "secret broken": ({"CLIENT_SECRET": "canary\n"}, "client secret", "failed", "holds a line break", PANEL),
    "secret spaced": ({"CLIENT_SECRET": " canary"}, "client secret", "warning", "with spaces around it", PANEL),
    "secret quoted": ({"CLIENT_SECRET": "'canary'"}, "client secret", "warning", "with quotation marks", PANEL),
    "secret is id": ({"CLIENT_SECRET": "app"}, "client secret", "warning", "the same as the client id", PANEL),
    "two secrets": ({"CLIENT_SECRET_FILE": "/x"}, "client secret", "failed", "are both set", "unset one of them"),
    "token URL odd": (
        {"TOKEN_URL": "auth.x"},
        "token URL",
        "failed",
        "SIMPLESTORE_TOKEN_URL must be an abs",
        "correct",
    ),
    "token URL http": (
        {"TOKEN_URL": "http://a.invalid/"},
        "token URL",
        "failed",
        "uses plain http to a.in",
        "use https",
    ),
    "token URL user": (
        {"TOKEN_URL": "https://u:canary@a.invalid/"},
        *("token URL", "failed", "must not hold a user name or password", "take them out of the URL"),
    ),
    "scope quoted": (
        {"SCOPE": '"orders"'},
        "scope",
        "failed",
        "SIMPLESTORE_SCOPE must be names",
        "correct SIMPLESTORE",
    ),
    "base URL odd": (
        {"BASE_URL": "https://"},
        "base URL",
        "failed",
        "SIMPLESTORE_BASE_URL must be an absolute",
        "correct",
    ),
    "base URL http": ({"BASE_URL": "http://a.invalid/"}, "base URL", "failed", "uses plain http to a.in", "use https"),
    "base URL query": ({"BASE_URL": "https://a.invalid/?b=c"}, "base URL", "failed", "not have a query", "take it out"),
    "misspelt": ({"CLEINT_ID": "x"}, "other variables", "warning", "SIMPLESTORE_CLEINT_ID", "SIMPLESTORE_CLIENT_ID?"),
    "short": ({"SECRET": "canary"}, "other variables", "warning", "SIMPLESTORE_SECRET", "SIMPLESTORE_CLIENT_SECRET?"),
    "foreign": ({"FOO": "x"}, "other variables", "ok", "not read by this package: SIMPLESTORE_FOO", ""),
}


@pytest.mark.parametrize("row", MISTAKES.values(), ids=MISTAKES)
async def test_mistake(environment: dict[str, str], row: tuple[dict[str, str], str, str, str, str]) -> None:
    """Each mistake has a row that says so and what to do; the values of secrets are in none."""
    changes, name, state, says, advises = row
    environment |= {f"SIMPLESTORE_{variable}": value for variable, value in changes.items()}
    rows = await doctor(environment=environment)

    assert_row(rows[f"Settings: {name}"], state=state, says=says, advises=advises)
    assert "canary" not in str(rows)


@pytest.mark.parametrize("name", ["simplestore_client_id", "SIMPLE_STORE_CLIENT_ID", "SIMPELSTORE_CLIENT_ID"])
async def test_misspelt_prefix(environment: dict[str, str], name: str) -> None:
    """A name that only nearly starts like ours is found, too."""
    rows = await doctor(environment=environment | {name: "x"})
    assert_row(rows["Settings: other variables"], state="warning", says=name, advises="mean SIMPLESTORE_CLIENT_ID?")


@pytest.mark.parametrize(
    "placeholder", ["changeme", "CHANGE_ME", "…", "xxxx", "your-client-secret-here", "<secret>", "${SECRET}", "TODO"]
)
async def test_placeholder(environment: dict[str, str], placeholder: str) -> None:
    """What examples have in the place of a secret is found, and not quoted."""
    rows = await doctor(environment=environment | {"SIMPLESTORE_CLIENT_SECRET": placeholder})
    row = rows["Settings: client secret"]

    assert_row(row, state="warning", says="looks like a placeholder", advises=PANEL)
    assert placeholder not in row.finding + row.advice


async def test_proxies(environment: dict[str, str]) -> None:
    """A proxy in the environment is named by its variable only, with what a program has to do to use it."""
    proxies = {"HTTPS_PROXY": "http://user:canary@proxy.invalid:3128", "no_proxy": "x", "http_proxy": ""}
    row = (await doctor(environment=environment | proxies))["Settings: proxies"]

    assert_row(row, state="warning", says="not used: HTTPS_PROXY. ", advises="trust_env=True")
    assert ["HTTPS_PROXY"] == row.facts["names"]
    assert "proxy.invalid" not in str(row)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE: No such file"),
        ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE holds no certificate"),
        ({"SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_DIR names no folder"),
    ],
)
async def test_trusted_cas(environment: dict[str, str], changes: dict[str, str], says: str) -> None:
    """OpenSSL passes over certificates that it cannot read: here it is said."""
    rows = await doctor(environment=environment | changes)
    assert_row(rows["Settings: trusted CAs"], state="warning", says=says, advises="unset it for the system's own")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


class TestSecretFile:
    @pytest.fixture
    def path(self, tmp_path: Path, environment: dict[str, str]) -> Path:
        path = tmp_path / "secret"
        path.write_text("canary\n")
        path.chmod(0o600)
        environment |= {"SIMPLESTORE_CLIENT_SECRET": "", "SIMPLESTORE_CLIENT_SECRET_FILE": str(path)}
        return path

    async def test_right_one(self, environment: dict[str, str], path: Path) -> None:
        """The file's path and mode are told, and nothing of what it holds."""
        row = (await doctor(environment=environment))["Settings: client secret"]

        assert ("ok", f"set, from the file {path} (mode 0600)") == (row.state, row.finding)
        assert {
            "source": "SIMPLESTORE_CLIENT_SECRET_FILE",
            "path": str(path),
            "mode": "0600",
            "owner_id": os.geteuid(),
            "is_symlink": False,
        } == row.facts

    async def test_tilde(self, environment: dict[str, str], path: Path) -> None:
        """A home that no shell has filled in."""
        row = (await doctor(environment=environment | {"SIMPLESTORE_CLIENT_SECRET_FILE": "~/secret"}))[
            "Settings: client secret"
        ]
        assert_row(row, state="failed", says="~/secret, which", advises="without ~")

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX symlinks and modes")
    async def test_kubernetes(self, environment: dict[str, str], path: Path) -> None:
        """A symlink to a file that everybody may read is how Kubernetes mounts secrets, and is fine."""
        target = path.rename(path.with_name("..data"))
        target.chmod(0o644)
        path.symlink_to(target)
        row = (await doctor(environment=environment))["Settings: client secret"]

        assert_row(row, state="ok", says="(mode 0644)")
        assert row.facts["is_symlink"]

    @pytest.mark.parametrize(
        "row",
        [
            (lambda path: path.unlink(), "failed", "cannot be read: No such file", "is it mounted?"),
            (lambda path: path.write_text(""), "failed", "is empty", PANEL),
            (lambda path: path.write_text("canary\n\n"), "failed", "holds a line break", PANEL),
            (lambda path: path.write_bytes(b"canary\xff"), "failed", "it is not UTF-8 text", PANEL),
            (lambda path: path.write_text("canary \n"), "warning", "with spaces around it", PANEL),
            (lambda path: path.write_text("changeme"), "warning", "looks like a placeholder", PANEL),
            (lambda path: path.chmod(0o622), "warning", "can be written to by others (mode 0622)", "chmod go-w"),
            (lambda path: (path.unlink(), path.mkdir()), "failed", "is no regular file", "read again for every"),
            (make_fifo, "failed", "is no regular file", "read again for every"),
        ],
    )
    async def test_mistake(
        self, environment: dict[str, str], path: Path, row: tuple[Callable[[Path], Any], str, str, str]
    ) -> None:
        """A file that no secret can be taken from, or an odd one, says why; the file is named."""
        spoil, state, says, advises = row
        spoil(path)
        rows = await doctor(environment=environment)

        assert_row(rows["Settings: client secret"], state=state, says=says, advises=advises)
        assert str(path) in rows["Settings: client secret"].finding
        assert "canary" not in str(rows)

    async def test_forbidden(self, environment: dict[str, str], path: Path) -> None:
        """A file that this user must not read: who should be let in, and to what."""
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read whatever there is")
        row = (await doctor(environment=environment))["Settings: client secret"]
        assert_row(row, state="failed", says="Permission denied", advises=f"let user {os.geteuid()} read {path}")


def test_known_variables_are_those_that_are_read() -> None:
    """The list has every variable that the package names, but for the one that shells use."""
    sources = (path.read_text("utf-8") for path in Path(simplestore_async.__file__).parent.rglob("*.py"))
    named = {name for source in sources for name in re.findall(r"(?<!_)SIMPLESTORE_[A-Z_]+[A-Z]", source)}
    assert {*KNOWN} == named - {"SIMPLESTORE_CLIENT"}

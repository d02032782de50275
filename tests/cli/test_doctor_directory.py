"""Results of `simplestore doctor` about shared tokens and the installation."""

from __future__ import annotations

import errno
import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from cryptography.fernet import Fernet
from yarl import URL

from simplestore_async import FileTokenCache
from simplestore_async.caches.encryption import FernetCodec
from tests.support.api_servers import refusing_url
from tests.support.cache_files import names_in
from tests.support.command import simplestore
from tests.support.doctor import assert_row, doctor, failures_in
from tests.support.platforms import needs_posix, needs_posix_files
from tests.support.tokens import living_token, make_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.redis_server import RedisServer

ELSEWHERE = "choose another directory"
TOKENS = "Shared tokens"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    return home | {"SIMPLESTORE_TOKEN_URL": refusing_url()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def filled(directory: Path) -> Path:
    """The directory with a token's file."""
    await FileTokenCache(directory).set("key", living_token())
    return directory


def fail_with(number: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


def swap(directory: Path) -> None:
    """Replace the directory by a file."""
    directory.rename(directory.with_name("aside"))
    directory.write_text("")


class TestDirectory:
    async def test_right_one(self, environment: dict[str, str], filled: Path) -> None:
        """The rows have path, mode, tokens and a lock's result; nothing is changed."""
        before = names_in(filled)
        rows = await doctor(TOKENS, directory=filled, environment=environment)

        row = rows["Shared tokens: directory"]
        assert_row(row, state="ok", says=f"{filled}, mode 0700, " if os.name == "posix" else f"{filled}, ")
        mode = "0700" if os.name == "posix" else None
        assert (str(filled), True, mode) == tuple(row.facts.get(name) for name in ("directory", "exists", "mode"))
        assert_row(rows["Shared tokens: files"], state="ok", says="1 token files, 0 expired")
        assert_row(rows["Shared tokens: locks"], state="ok", says="(test file removed)")
        assert before == names_in(filled)

    async def test_encrypted(self, environment: dict[str, str], directory: Path) -> None:
        """Encrypted files are read with the environment's key, which is not shown; without it they are unusable."""
        key = Fernet.generate_key().decode()
        await FileTokenCache(directory, codec=FernetCodec(key)).set("key", living_token())
        rows = await doctor(TOKENS, directory=directory, environment=environment, CACHE_KEY=key)

        assert_row(rows["Shared tokens: key"], state="ok", says="from SIMPLESTORE_CACHE_KEY; tokens are stored enc")
        assert_row(rows["Shared tokens: files"], state="ok", says="1 token files, 0 expired")
        assert key not in str(rows)
        rows = await doctor(TOKENS, directory=directory, environment=environment)
        assert_row(rows["Shared tokens: key"], state="ok", says="none; tokens are stored unencrypted")
        assert_row(rows["Shared tokens: files"], state="warning", says="1 not usable", advises="clear")

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"CACHE_KEY": "canary"}, "SIMPLESTORE_CACHE_KEY"),
            ({"CACHE_KEY_FILE": "/etc/gone"}, "/etc/gone"),
            ({"CACHE_KEY": "x", "CACHE_KEY_FILE": "/x"}, "are both set"),
        ],
    )
    async def test_wrong_key(self, environment: dict[str, str], settings: dict[str, Any], says: str) -> None:
        """An invalid key fails and is not quoted; the files are not read."""
        rows = await doctor(TOKENS, environment=environment, **settings)

        assert_row(rows["Shared tokens: key"], state="failed", says=says)
        assert_row(rows["Shared tokens: files"], state="skipped", says="because of Shared tokens: key")
        assert "canary" not in str(rows)

    async def test_default_one(self, environment: dict[str, str], tmp_path: Path) -> None:
        """A default directory that does not exist is not created."""
        rows = await doctor(TOKENS, environment=environment)

        path = (await simplestore("cache", "path", environment=environment)).stdout.strip()
        assert_row(rows["Shared tokens: directory"], state="ok", says=f"{path} does not exist yet")
        assert_row(rows["Shared tokens: locks"], state="skipped", says="there is no directory yet")
        assert [] == names_in(tmp_path)

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            pytest.param(lambda directory: directory.chmod(0o777), "0777", marks=needs_posix_files),
            (swap, "Not a directory" if os.name == "posix" else "invalid"),
        ],
        ids=["mode", "file"],
    )
    async def test_bad_one(
        self, environment: dict[str, str], filled: Path, spoil: Callable[[Path], Any], says: str
    ) -> None:
        """An unusable directory fails; dependent checks are skipped."""
        spoil(filled)
        rows = await doctor(TOKENS, directory=filled, environment=environment)

        assert_row(rows["Shared tokens: directory"], state="failed", says=says, advises=ELSEWHERE)
        for name in "files", "locks":
            assert_row(rows[f"Shared tokens: {name}"], state="skipped", says="because of Shared tokens: directory")

    @needs_posix_files
    async def test_expired_and_unused(self, environment: dict[str, str], filled: Path) -> None:
        """Expired files are counted; unusable ones are listed with the reason."""
        await FileTokenCache(filled).set("old", make_token(issued_at=1_700_000_000, expires_at=1_700_003_600))
        damaged, readable = (filled / f"token-v2-{digit * 64}.json" for digit in "01")
        damaged.touch(0o600)
        damaged.write_text("canary")
        readable.touch(0o644)
        rows = await doctor(TOKENS, directory=filled, environment=environment)
        row = rows["Shared tokens: files"]

        assert_row(row, state="warning", says="4 token files, 1 expired", advises="simplestore cache clear")
        assert "2 not usable: " in row.finding
        assert {"files": 4, "expired": 1, "unused": 2} == row.facts
        assert "canary" not in str(rows)

    @needs_posix
    @pytest.mark.parametrize(
        "row",
        [
            ("fcntl.flock", fail_with(errno.ENOLCK), "files cannot be created and locked: "),
            ("tempfile.mkdtemp", fail_with(errno.EROFS), "files cannot be created and locked: Read-only file system"),
            ("fcntl.flock", lambda *_: None, "grants one lock twice"),
        ],
        ids=["no locks", "read-only", "shared locks"],
    )
    async def test_short_of_locks(
        self, environment: dict[str, str], filled: Path, monkeypatch: pytest.MonkeyPatch, row: Any
    ) -> None:
        """A file system without working locks is reported, and nothing is left in the directory."""
        name, replacement, says = row
        before = names_in(filled)
        monkeypatch.setattr(name, replacement)
        rows = await doctor(TOKENS, directory=filled, environment=environment)

        assert_row(rows["Shared tokens: locks"], state="failed", says=says, advises=ELSEWHERE)
        assert before == names_in(filled)

    async def test_short_of_room(
        self, environment: dict[str, str], filled: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk is a warning."""
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
        row = (await doctor(TOKENS, directory=filled, environment=environment))["Shared tokens: directory"]
        assert_row(row, state="warning", says=", 0 MiB free", advises="free some space")

    @needs_posix
    async def test_no_home(self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a home there is no default directory, which is no failure: not every program needs one."""
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
        for name in "HOME", "XDG_CACHE_HOME":
            monkeypatch.delenv(name, raising=False)
            del environment[name]
        row = (await doctor(TOKENS, environment=environment))["Shared tokens: directory"]
        assert_row(row, state="skipped", says="no home directory", advises=ELSEWHERE)


class TestRedis:
    async def test_right_one(self, environment: dict[str, str], redis_server: RedisServer) -> None:
        """The environment's Redis server replaces the directory."""
        rows = await doctor(TOKENS, environment=environment, REDIS_URL=redis_server.url)
        assert_row(rows["Shared tokens: Redis"], state="ok", says="server reached; tokens stored: 0 ")
        assert "Shared tokens: directory" not in rows

    async def test_refused(self, environment: dict[str, str]) -> None:
        """An unreachable server and an invalid URL fail; no part of the URL is shown."""
        refused = f"redis://user:canary@127.0.0.1:{URL(refusing_url()).port}/0"
        for url, advises in (refused, "server is up"), ("http://canary/", ""):
            rows = await doctor(TOKENS, environment=environment, REDIS_URL=url)
            assert_row(rows["Shared tokens: Redis"], state="failed", says="SIMPLESTORE_REDIS_URL", advises=advises)
            assert "canary" not in str(rows)


class TestInstallation:
    async def test_this_one(self, environment: dict[str, str]) -> None:
        """The rows have the versions of Python, OpenSSL, the package and its dependencies."""
        rows = await doctor("Installation", environment=environment)

        python = rows["Installation: Python"]
        assert_row(python, state="ok", says=f"{sys.version_info[0]}.{sys.version_info[1]}.")
        assert {"python", "implementation", "openssl", "platform", "event_loop"} <= python.facts.keys()
        packages = rows["Installation: packages"].facts["packages"]
        assert isinstance(packages, dict)
        assert {"simplestore-async", "aiohttp", "attrs", "cattrs", "filelock", "platformdirs"} <= packages.keys()
        assert_row(rows["Installation: extras"], state="ok", says="click ")
        assert [] == failures_in(rows)

    async def test_wrong_versions(
        self, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A version outside the bounds fails, with the command that fixes it."""
        versions = {"platformdirs": "4.1.0", "aiohttp": "4.0.0", "rich": "13.8.1rc1"}
        for name, version in versions.items():
            metadata = tmp_path / f"{name}-{version}.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)
        rows = await doctor("Installation", environment=environment)

        for name, version in versions.items():
            row = rows["Installation: extras" if name == "rich" else "Installation: packages"]
            assert_row(row, state="failed", says=f"{name} {version}", advises=f'"{name}')
            assert row.advice.startswith("pip install ")

"""`simplestore cache` on the directory of a `FileTokenCache`."""
# ruff: noqa: ASYNC240 - these tests are about files, and their loop runs nothing else

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from simplestore_async import FileTokenCache
from tests.support.cache_files import DIGEST, NAME, names_in
from tests.support.command import assert_one_line, patched, simplestore
from tests.support.platforms import needs_linux, needs_posix, needs_posix_files
from tests.support.tokens import living_token, make_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simplestore_async.sandbox import Sandbox
    from tests.support.command import Outcome


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def path(directory: Path) -> Path:
    """A token's file."""
    await FileTokenCache(directory).set("key", living_token())
    return directory / NAME


async def cache(operation: str, directory: Path, *options: str) -> Outcome:
    outcome = await simplestore("cache", operation, "--directory", str(directory), *options)
    assert "canary" not in outcome.stdout + outcome.stderr
    return outcome


class TestPath:
    async def test_default(self, tmp_path: Path) -> None:
        """The path is that of the same user's `FileTokenCache()`; it is not created."""
        home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
        outcome = await simplestore("cache", "path", environment=home)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert outcome.stdout.startswith(str(tmp_path))
        assert outcome.stdout.endswith("\n")
        assert "simplestore-async" in outcome.stdout
        assert [] == names_in(tmp_path)
        in_json = await simplestore("cache", "path", "--json", environment=home)
        assert {"directory": outcome.stdout.strip()} == in_json.json

    @needs_linux
    async def test_not_utf_8(self, tmp_path: Path) -> None:
        """A directory name that is not valid text is printed unchanged, and the other commands accept it."""
        directory = tmp_path / os.fsdecode(b"caf\xe9")
        assert f"{directory}\n" == (await cache("path", directory)).stdout
        assert str(directory) == (await cache("path", directory, "--json")).json["directory"]
        assert (0, "") == ((await cache("clear", directory)).code, (await cache("clear", directory)).stderr)

    @needs_posix
    async def test_no_home(self) -> None:
        """Without a home directory the error line has a hint."""
        # A user without home directory, as in many containers.
        patch = "import os, pwd; pwd.getpwuid = {}.__getitem__; os.environ.pop('HOME', None)"
        assert_one_line(await patched(patch, "cache", "path"), code=1, says="--directory")


class TestList:
    async def test_row(self, directory: Path, path: Path) -> None:
        """A row has the start of the digest, both instants and the time left, within 80 columns; no token."""
        outcome = await cache("list", directory)
        names, row = (re.split(r"  +", line) for line in outcome.stdout.splitlines())

        assert (0, "") == (outcome.code, outcome.stderr)
        assert ["digest", "issued", "expires", "time left"] == names
        assert max(map(len, outcome.stdout.splitlines())) <= 80
        assert DIGEST[:12] == row[0]
        assert row[1] < row[2]
        assert re.fullmatch(r"0:5[78]:\d\d", row[3])

    async def test_odd_instants(self, directory: Path) -> None:
        """An expired token is listed as such, and instants beyond any calendar do not break the table."""
        await FileTokenCache(directory).set("key", make_token(issued_at=1_700_000_000, expires_at=1_700_003_600))
        outcome = await cache("list", directory)
        assert "2023-11-14 22:13:20+00:00  2023-11-14 23:13:20+00:00  expired" in outcome.stdout
        (facts,) = (await cache("list", directory, "--json")).json
        assert 0 == facts["life_seconds"]

        await FileTokenCache(directory).set("key", make_token(issued_at=1e300, expires_at=1e301))
        outcome = await cache("list", directory)
        assert re.search("beyond any calendar .*for ever", outcome.stdout)

    @pytest.mark.parametrize(
        ("spoil", "problem"),
        [
            (lambda path: path.write_text("canary"), "it is damaged, or encrypted"),
            pytest.param(lambda path: path.chmod(0o644), "mode 0644 gives other users", marks=needs_posix_files),
            (lambda path: path.rename(path.with_name(NAME.replace("v2", "v1"))), "its format version is 1, not 2"),
        ],
    )
    async def test_not_used(self, directory: Path, path: Path, spoil: Callable[[Path], object], problem: str) -> None:
        """An unusable file is listed with the reason."""
        spoil(path)
        outcome = await cache("list", directory)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert f"{DIGEST[:12]}  not used: {problem}" in outcome.stdout

        (facts,) = (await cache("list", directory, "--json")).json
        assert facts["problem"].startswith(problem)
        assert {None} == {facts[name] for name in ("issued_at", "expires_at", "life_seconds")}

    async def test_json(self, directory: Path, path: Path) -> None:
        """`--json` prints a list with an object for each file."""
        token = await FileTokenCache(directory).get("key")
        (facts,) = (await cache("list", directory, "--json")).json

        assert token is not None
        assert 3_400 < facts.pop("life_seconds") < 3_540
        assert {
            "digest": DIGEST,
            "problem": None,
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "size_bytes": path.stat().st_size,
        } == facts

    async def test_nothing(self, directory: Path) -> None:
        """A missing or empty directory is reported in a line; in JSON it is an empty list."""
        for _ in range(2):
            for options, expected in (([], f"no tokens are stored in {directory}\n"), (["--json"], "[]\n")):
                outcome = await cache("list", directory, *options)
                assert (0, expected, "") == (outcome.code, outcome.stdout, outcome.stderr)
            directory.mkdir(0o700, exist_ok=True)


class TestClear:
    async def test_clear(self, directory: Path, path: Path) -> None:
        """Tokens are removed and counted; a held lock and other files stay."""
        await FileTokenCache(directory).set("second", living_token())
        (directory / "notes.txt").write_text("precious")
        async with FileTokenCache(directory).renewal_lock("key"):
            outcome = await cache("clear", directory)
            assert ["notes.txt", NAME.replace("json", "lock")] == names_in(directory)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert "files removed: 2\n" == outcome.stdout
        assert {"removed": 0} == (await cache("clear", directory, "--json")).json


class TestDirectory:
    @needs_posix_files
    @pytest.mark.parametrize("operation", ["list", "clear"])
    async def test_not_private(self, directory: Path, path: Path, operation: str) -> None:
        """A directory that other users may write to: exit code 1, reason and hint; nothing is removed."""
        directory.chmod(0o777)
        outcome = await cache(operation, directory)

        assert_one_line(outcome, code=1, says=f"{directory}: mode 0777 gives other users access")
        assert "or choose another directory" in outcome.stderr
        assert [NAME] == names_in(directory)
        outcome = await cache(operation, directory, "--json")
        assert (1, "", "TokenCacheError") == (outcome.code, outcome.stdout, outcome.error["type"])

    @pytest.mark.parametrize("operation", ["path", "list", "clear"])
    async def test_file(self, path: Path, operation: str) -> None:
        """A file in place of the directory is wrong usage."""
        assert_one_line(await cache(operation, path), code=2, says="--directory")


async def default_directory(environment: Mapping[str, str]) -> str:
    return (await simplestore("cache", "path", environment=environment)).stdout.strip()


class TestEncrypted:
    async def test_token_and_list(self, sandbox: Sandbox, tmp_path: Path) -> None:
        """With a key in the environment commands share an encrypted token, which `list` reads with the key only."""
        home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
        key = {"SIMPLESTORE_CACHE_KEY": Fernet.generate_key().decode()}
        header = "token", "--cache", "--header"
        one, other = [await simplestore(*header, environment=sandbox.environment | home | key) for _ in range(2)]

        assert (0, "") == (one.code, one.stderr)
        assert one == other
        (path,) = Path(await default_directory(home)).glob("token-*.json")
        assert one.stdout.split()[-1].encode() not in path.read_bytes()
        assert "time left" in (await simplestore("cache", "list", environment=home | key)).stdout
        assert "damaged, or encrypted" in (await simplestore("cache", "list", environment=home)).stdout
        assert 1 == (await simplestore("cache", "clear", "--json", environment=home)).json["removed"]

    @pytest.mark.parametrize(
        "arguments", [("cache", "list"), ("token", "--cache"), ("request", "GET", "orders", "--cache")]
    )
    async def test_wrong_key(self, sandbox: Sandbox, arguments: tuple[str, ...]) -> None:
        """An invalid key is wrong usage, and is not quoted."""
        environment = sandbox.environment | {"SIMPLESTORE_CACHE_KEY": "canary"}
        outcome = await simplestore(*arguments, environment=environment)

        assert_one_line(outcome, code=2, says="SIMPLESTORE_CACHE_KEY cannot be used: number 1 is not 32 bytes")
        assert "canary" not in outcome.stderr
        assert 0 == sandbox.counters.token_requests

    async def test_wrong_key_clears(self, directory: Path, path: Path) -> None:
        """Files are removed whatever the key."""
        environment = {"SIMPLESTORE_CACHE_KEY": "canary"}
        outcome = await simplestore("cache", "clear", "--directory", str(directory), environment=environment)

        assert "files removed: 1\n" == outcome.stdout
        assert [] == names_in(directory)

    async def test_missing_extra(self) -> None:
        """Without the extra the error line names it."""
        patch, environment = "sys.modules['cryptography.fernet'] = None", {"SIMPLESTORE_CACHE_KEY_FILE": "/nowhere"}
        outcome = await patched(patch, "cache", "list", environment=environment)
        assert_one_line(outcome, code=2, says='pip install "simplestore-async[encryption]"')

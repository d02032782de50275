"""Proxies and Redis servers of the environment, with `token`, `request`, `doctor` and `cache`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from yarl import URL

from simplestore_async.sandbox import Sandbox
from tests.support.api_servers import ConnectProxy
from tests.support.command import assert_one_line, finish, simplestore, start
from tests.support.tls import authority, private_ca

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer


class TestProxy:
    @pytest.fixture
    async def environment(self, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
        """A sandbox behind a proxy with a password."""
        authority().cert_pem.write_to_path(tmp_path / "ca.pem")
        async with Sandbox(ssl_context=private_ca().server) as sandbox:
            port = URL(sandbox.base_url).port or 0
            async with ConnectProxy({"api.example:443": port}) as self.proxy:
                yield {
                    **sandbox.environment,
                    "SIMPLESTORE_TOKEN_URL": "https://api.example/connect/token",
                    "SIMPLESTORE_BASE_URL": "https://api.example/api/",
                    "HTTPS_PROXY": f"http://user:hunter2-canary@127.0.0.1:{self.proxy.port}",
                    "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
                }

    async def test_is_used(self, environment: dict[str, str]) -> None:
        """All requests go through the proxy, and its password is never shown."""
        # In a new process: aiohttp loads the trusted CAs when it is imported.
        program = """
import sys
from simplestore_async.cli import main
for words in "token", "request GET orders", "doctor -v":
    sys.argv[1:] = "--debug", *words.split()
    print(words, main())
"""
        outcome = await finish(await start(sys.executable, "-c", program, environment=environment))

        for words in "token", "request GET orders", "doctor -v":
            assert f"{words} 0\n" in outcome.stdout, outcome.stderr
        assert {"api.example:443"} == self.proxy.targets
        assert "canary" not in outcome.stdout + outcome.stderr

    async def test_is_not_used_for_loopback(self) -> None:
        """A sandbox on loopback is reached without the proxy."""
        async with Sandbox() as sandbox:
            environment = sandbox.environment | {"http_proxy": "http://127.0.0.1:9"}
            for arguments in ["token"], ["request", "GET", "orders"]:
                assert 0 == (await simplestore(*arguments, environment=environment)).code


class TestRedis:
    @pytest.fixture
    async def environment(self, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
        async with Sandbox() as self.sandbox:
            home = {"HOME": str(tmp_path), "SIMPLESTORE_REDIS_URL": redis_server.patient_url}
            yield self.sandbox.environment | home

    async def test_shared(self, environment: dict[str, str], tmp_path: Path) -> None:
        """With `--cache` commands share a token in Redis and store no file."""
        header = (await simplestore("token", "--cache", "--header", environment=environment)).stdout
        assert header == (await simplestore("token", "--cache", "--header", environment=environment)).stdout
        assert 0 == (await simplestore("request", "GET", "x", "--cache", environment=environment)).code
        assert 1 == self.sandbox.counters.token_requests
        assert [] == os.listdir(tmp_path)  # noqa: PTH208 - a test may block

    async def test_list_and_clear(self, environment: dict[str, str], tmp_path: Path) -> None:
        """`cache list` has digest and expiry of each token, unless --directory is given; `cache clear` removes them."""
        assert "no tokens are stored in Redis\n" == (await simplestore("cache", "list", environment=environment)).stdout
        token = (await simplestore("token", "--cache", "--json", "--show", environment=environment)).json
        (facts,) = (await simplestore("cache", "list", "--json", environment=environment)).json
        lines = (await simplestore("cache", "list", environment=environment)).stdout.splitlines()

        assert token["expires_at"] == pytest.approx(facts["expires_at"], abs=2)
        assert (64, None, None) == (len(facts["digest"]), facts["problem"], facts["issued_at"])
        assert lines[1].startswith(facts["digest"][:12])
        assert token["value"] not in str(facts) + str(lines)
        elsewhere = "--directory", str(tmp_path / "x"), "--json"
        assert [] == (await simplestore("cache", "list", *elsewhere, environment=environment)).json
        assert 1 == (await simplestore("cache", "clear", "--json", environment=environment)).json["removed"]
        assert [] == (await simplestore("cache", "list", "--json", environment=environment)).json

    async def test_refused(self, environment: dict[str, str]) -> None:
        """An unreachable server is a warning of `token` and an error of `cache`; no URL is shown."""
        environment["SIMPLESTORE_REDIS_URL"] = "redis://user:canary@127.0.0.1:9/0"
        outcome = await simplestore("token", "--cache", environment=environment)
        assert 0 == outcome.code
        assert outcome.stderr.startswith("simplestore: warning: ")
        assert "canary" not in outcome.stderr
        outcome = await simplestore("cache", "list", environment=environment)
        assert_one_line(outcome, code=1, says="cannot use the server of SIMPLESTORE_REDIS_URL: ConnectionError")

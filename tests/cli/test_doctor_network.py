"""Results of `simplestore doctor` about hosts, clock, token and API."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.support.api_servers import answering, refusing_url
from tests.support.command import COMMAND, finish, patched, start
from tests.support.doctor import assert_row, doctor, failures_in, read_rows
from tests.support.raw_server import RawServer
from tests.support.servers import ApiServer, Server, TokenServer
from tests.support.tls import authority, private_ca, server_context
from tests.support.wire_faults import hangs_after, says

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTS = "Settings", "Token endpoint", "API"


def posts_to(server: TokenServer) -> int:
    return [request.method for request in server.requests].count("POST")


async def test_all_passed(token_server: TokenServer, api_server: ApiServer, environment: dict[str, str]) -> None:
    """Only one token request, one HEAD without credentials and one authorised GET are sent."""
    rows = await doctor(*HOSTS, environment=environment)

    assert {"ok", "skipped"} == {row.state for row in rows.values()}
    assert ["HEAD /", "POST /connect/token"] == sorted(f"{each.method} {each.path}" for each in token_server.requests)
    (head,) = (each for each in token_server.requests if each.method == "HEAD")
    assert ("", b"", None) == (head.query, head.body, head.headers.get("Authorization"))
    assert [("GET", "/v1/")] == [(each.method, each.path) for each in api_server.requests]
    assert 1 == len({*api_server.tokens} & {*token_server.issued})
    assert_row(rows["Token endpoint: TLS"], state="skipped", says="plain http, on this machine only")
    assert_row(rows["Token endpoint: token"], state="ok", says="Bearer token for 1:00:00")
    assert (3600, []) == tuple(rows["Token endpoint: token"].facts[name] for name in ("life_seconds", "scope"))
    assert_row(rows["API: request"], state="ok", says="GET responds 200: reachable; token accepted")
    assert "API: TCP" in rows


class TestHost:
    @pytest.mark.parametrize("host", ["auth.invalid", f"{'x' * 64}.invalid"], ids=["unknown", "impossible"])
    async def test_unknown_name(self, environment: dict[str, str], host: str) -> None:
        """A name that does not exist: dependent checks are skipped, with the reason."""
        rows = await doctor(*HOSTS, environment=environment, TOKEN_URL=f"https://{host}/connect/token")

        assert ["Token endpoint: DNS"] == failures_in(rows)
        assert_row(rows["Token endpoint: DNS"], state="failed", says=f"{host}: ", advises="SIMPLESTORE_TOKEN_URL")
        for name in "TCP", "TLS", "clock", "token":
            assert_row(rows[f"Token endpoint: {name}"], state="skipped", says="because of Token endpoint: ")
        assert_row(rows["API: TCP"], state="ok", says="IPv4 127.0.0.1 in ")
        assert_row(rows["API: request"], state="skipped", says="because of Token endpoint: token")

    async def test_silent_resolver(self, environment: dict[str, str]) -> None:
        """A resolver that does not respond exceeds the time limit, and does not delay the command's end."""
        # In a new process, whose end would wait for the threads of asyncio's executor.
        patch = "import socket, threading; socket.getaddrinfo = lambda *_, **__: threading.Event().wait()"
        outcome = await patched(patch, "doctor", "--json", "--timeout", "0.5", environment=environment)
        row = read_rows(outcome)["Token endpoint: DNS"]
        assert_row(row, state="failed", says="no response within 0.5 s", advises="the resolver does not respond")

    async def test_refused(self, environment: dict[str, str]) -> None:
        """A closed port fails, on either host."""
        rows = await doctor(*HOSTS, environment=environment, TOKEN_URL=refusing_url(), BASE_URL=refusing_url())
        says = "IPv4 127.0.0.1: Connection refused"
        for subject, variable in ("Token endpoint", "TOKEN_URL"), ("API", "BASE_URL"):
            advises = f"the port in SIMPLESTORE_{variable}"
            assert_row(rows[f"{subject}: TCP"], state="failed", says=says, advises=advises)
        assert ["Token endpoint: TCP", "API: TCP"] == failures_in(rows)

    async def test_one_family(self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """If only one of a host's address families works, it is used, with a warning."""
        resolve = socket.getaddrinfo

        def resolve_both(host: str, *rest: Any, **options: Any) -> Any:
            dead = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0))] if host == "localhost" else []
            return dead + resolve("127.0.0.1" if dead else host, *rest, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve_both)
        environment["SIMPLESTORE_TOKEN_URL"] = environment["SIMPLESTORE_TOKEN_URL"].replace("127.0.0.1", "localhost")
        rows = await doctor(*HOSTS, environment=environment)

        assert_row(rows["Token endpoint: TCP"], state="warning", says="IPv6 ::1: ", advises="fix the route")
        assert None is rows["Token endpoint: TCP"].facts["ipv6_seconds"]
        assert "IPv4 127.0.0.1 in " in rows["Token endpoint: TCP"].finding
        assert_row(rows["Token endpoint: token"], state="ok", says="Bearer")


class TestTls:
    @pytest.fixture(autouse=True)
    def trusted(self, tmp_path: Path, environment: dict[str, str]) -> None:
        """Trust the tests' CA through the environment."""
        authority().cert_pem.write_to_path(tmp_path / "ca.pem")
        environment["SSL_CERT_FILE"] = str(tmp_path / "ca.pem")

    async def test_trusted(self, environment: dict[str, str]) -> None:
        """The row has version, issuer and days; the token request trusts the same CA."""
        async with TokenServer(ssl_context=private_ca().server) as server:
            environment["SIMPLESTORE_TOKEN_URL"] = server.token_url
            # In a new process: aiohttp loads the trusted CAs when it is imported.
            rows = read_rows(await finish(await start(*COMMAND, "doctor", "--json", environment=environment)))
        row = rows["Token endpoint: TLS"]

        assert_row(row, state="ok", says="certificate for 127.0.0.1 by Tests' own CA, expires in ")
        assert ("TLSv1.3", "Tests' own CA") == (row.facts["tls_version"], row.facts["issuer"])
        assert_row(rows["Token endpoint: token"], state="ok", says="Bearer")
        assert_row(rows["Settings: trusted CAs"], state="ok", says="ca.pem, from SSL_CERT_FILE")

    @pytest.mark.parametrize(
        "row",
        [
            ({"not_after": timedelta(days=-1)}, "failed", "certificate has expired", "operator must renew"),
            ({"not_before": timedelta(days=1)}, "failed", "certificate is not yet valid", "this machine's clock"),
            ({"not_after": timedelta(days=13)}, "warning", "expires in 13 days", "renew the certificate before that"),
            ({"host": "other.invalid"}, "failed", "IP address mismatch", "the host's name in SIMPLESTORE_TOKEN_URL"),
        ],
        ids=["expired", "early", "soon", "host"],
    )
    async def test_certificate(self, environment: dict[str, str], row: Any) -> None:
        """An invalid or soon expiring certificate is reported with reason and fix."""
        certificate, state, says, advises = row
        host = certificate.get("host", "127.0.0.1")
        now = datetime.now(UTC) + timedelta(minutes=1)
        moments = {name: now + by for name, by in certificate.items() if name != "host"}
        moments.setdefault("not_before", now - timedelta(days=90))
        context = server_context(authority().issue_cert(host, **moments))
        async with TokenServer(ssl_context=context) as server:
            rows = await doctor(*HOSTS, environment=environment, TOKEN_URL=server.token_url)

        assert_row(rows["Token endpoint: TLS"], state=state, says=says, advises=advises)

    @pytest.mark.parametrize("is_self_signed", [True, False])
    async def test_unknown_ca(self, environment: dict[str, str], is_self_signed: bool) -> None:
        """For a self-signed certificate or an untrusted CA the advice is how to trust it; no secret is sent."""
        environment["SSL_CERT_FILE"] = ""
        context = server_context() if is_self_signed else private_ca().server
        async with TokenServer(ssl_context=context) as server:
            rows = await doctor(*HOSTS, environment=environment, TOKEN_URL=server.token_url)
            assert [] == server.requests

        row = rows["Token endpoint: TLS"]
        assert_row(row, state="failed", says="certificate not trusted: ", advises="SSL_CERT_FILE for this command")
        assert ("self-signed certificate" == row.finding.partition(": ")[2]) is is_self_signed
        assert_row(rows["Token endpoint: token"], state="skipped", says="because of Token endpoint: TLS")

    async def test_no_tls(self, token_server: TokenServer, environment: dict[str, str]) -> None:
        """A port without TLS fails."""
        url = token_server.token_url.replace("http", "https")
        row = (await doctor(*HOSTS, environment=environment, TOKEN_URL=url))["Token endpoint: TLS"]
        assert_row(row, state="failed", says="no TLS: ", advises="that this port speaks https")


async def test_silent_servers(environment: dict[str, str], token_server: TokenServer) -> None:
    """Hosts that accept and never respond: each check times out and names the setting."""
    async with RawServer(hangs_after(), reads_first=False) as server:
        silent = partial(doctor, *HOSTS, environment=environment, timeout_seconds=1)
        endpoint = await silent(TOKEN_URL=f"{server.url}/connect/token")
        tls = await silent(TOKEN_URL=f"{server.url}/".replace("http", "https"))
        api = await silent(BASE_URL=server.url)

    late = "no response within 1 s"
    assert_row(endpoint["Token endpoint: token"], state="failed", says=late, advises="check SIMPLESTORE_TOKEN_URL")
    assert_row(endpoint["Token endpoint: clock"], state="skipped", says="no response to HEAD")
    assert_row(tls["Token endpoint: TLS"], state="failed", says=late, advises="firewall")
    assert_row(api["API: request"], state="failed", says=late, advises="check SIMPLESTORE_BASE_URL")
    assert 1 == posts_to(token_server)


async def test_closed_connections(environment: dict[str, str]) -> None:
    """Hosts that close the connection: the token request and the API fail, and the clock is skipped."""
    async with RawServer(says()) as server:
        endpoint = await doctor(*HOSTS, environment=environment, TOKEN_URL=f"{server.url}/connect/token")
        api = await doctor(*HOSTS, environment=environment, BASE_URL=server.url)

    row = endpoint["Token endpoint: token"]
    assert_row(row, state="failed", says="closed before", advises="SIMPLESTORE_TOKEN_URL")
    assert_row(endpoint["Token endpoint: clock"], state="skipped", says="no response to HEAD")
    assert_row(api["API: request"], state="failed", says="no complete response", advises="SIMPLESTORE_BASE_URL")


class TestClock:
    @pytest.mark.parametrize(
        "row",
        [
            (timedelta(hours=-1), {}, "warning", "s ahead of the server's (± "),
            (timedelta(hours=1), {}, "warning", "s behind the server's (± "),
            (timedelta(seconds=-10), {}, "ok", "s ahead of the server's (± "),
            ("yesterday", {}, "skipped", "no time in the server's response"),
            (timedelta(hours=1), {"Age": "3600"}, "skipped", "no time in the server's response"),
        ],
    )
    async def test_skew(self, token_server: TokenServer, environment: dict[str, str], row: Any) -> None:
        """A clock that is more than 30 s off is a warning; without a server time the check is skipped."""
        value, more, state, says = row
        respond = token_server.handler

        async def handle(request: web.Request) -> web.StreamResponse:
            if request.method == "POST":
                return await respond(request)
            date = format_datetime(datetime.now(UTC) + value, usegmt=True) if isinstance(value, timedelta) else value
            return web.Response(status=404, headers={"Date": date, **more})

        token_server.handler = handle
        result = (await doctor(*HOSTS, environment=environment))["Token endpoint: clock"]

        assert_row(result, state=state, says=says, advises="NTP" if state == "warning" else "")
        if state == "warning":
            assert isinstance(result.facts["ahead_seconds"], float)
            assert 3_500 < abs(result.facts["ahead_seconds"]) < 3_700


def refusal(status: int, **fields: str) -> web.Response:
    return web.json_response(fields, status=status)


class TestToken:
    @pytest.mark.parametrize(
        "row",
        [
            (refusal(400, error="invalid_client"), "responds 400 (invalid_client)", "Control Panel"),
            (refusal(403), "token endpoint responds 403", "Control Panel"),
            (refusal(400, error="invalid_scope", title="No"), "400 (invalid_scope, No)", "SIMPLESTORE_SCOPE"),
            (refusal(400, error="unauthorized_client"), "400 (unauthorized_client)", "create another in the Control"),
            (refusal(418), "responds 418", "see Troubleshooting"),
            (refusal(404), "token endpoint responds 404", "SIMPLESTORE_TOKEN_URL"),
            (refusal(429), "token endpoint responds 429", "share one provider"),
            (refusal(503), "token endpoint responds 503", "try again later"),
            (web.Response(status=307, headers={"Location": "/x"}), "responds 307", "captive portal"),
            (web.Response(text="<html>"), "", "captive portal"),
            (web.Response(status=204), "", "SIMPLESTORE_TOKEN_URL"),
        ],
        ids=lambda row: str(row[0].status),
    )
    async def test_refused(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str], row: Any
    ) -> None:
        """A refused token request is sent once and gets advice; the API is not called."""
        response, says, advises = row
        token_server.handler = answering_posts(token_server, response)
        rows = await doctor(*HOSTS, environment=environment)

        assert_row(rows["Token endpoint: token"], state="failed", says=says, advises=advises)
        assert ["Token endpoint: token"] == failures_in(rows)
        assert_row(rows["API: request"], state="skipped", says="because of Token endpoint: token")
        assert 1 == posts_to(token_server)
        assert [] == api_server.requests

    async def test_scope(self, token_server: TokenServer, environment: dict[str, str]) -> None:
        """A requested scope that is not granted is a warning (RFC 6749 5.1)."""
        reply = {"access_token": "canary", "expires_in": 60, "scope": "orders"}
        token_server.handler = answering_posts(token_server, web.json_response(reply))
        rows = await doctor(*HOSTS, environment=environment, SCOPE="orders products")
        row = rows["Token endpoint: token"]

        assert_row(row, state="warning", says="scope orders, without products", advises="SIMPLESTORE_SCOPE")
        assert (["orders"], 60) == (row.facts["scope"], row.facts["life_seconds"])


def answering_posts(server: Server, response: web.Response) -> Callable[[web.Request], Any]:
    respond = server.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        return response if request.method == "POST" else await respond(request)

    return handle


class TestApi:
    @pytest.mark.parametrize(
        "row",
        [
            (404, "warning", "GET responds 404: nothing at the base URL itself", "the path in SIMPLESTORE_BASE_URL"),
            (401, "failed", "GET responds 401: the API rejects the token", "the same store"),
            (403, "failed", "GET responds 403: the API rejects the token", "the same store"),
            (503, "warning", "GET responds 503", "the API itself fails"),
            (302, "warning", "GET responds 302, a redirect", "set SIMPLESTORE_BASE_URL to the target"),
        ],
    )
    async def test_status(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str], row: Any
    ) -> None:
        """Any response of the API passes, except a rejected token; no second token is requested."""
        status, state, says, advises = row
        api_server.handler = answering(status=status, headers={"Location": "/elsewhere"})
        rows = await doctor(*HOSTS, environment=environment)

        assert_row(rows["API: request"], state=state, says=says, advises=advises)
        assert status == rows["API: request"].facts["status"]
        assert (1, 1) == (posts_to(token_server), len(api_server.requests))

    async def test_html(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """An HTML page in place of the API, as of a captive portal, is a warning."""
        api_server.handler = answering(text="<html>", content_type="text/html")
        row = (await doctor(*HOSTS, environment=environment))["API: request"]
        assert_row(row, state="warning", says="HTML page", advises="captive portal")

    async def test_same_host(self, token_server: TokenServer, environment: dict[str, str]) -> None:
        """The connection to an API on the token endpoint's host is checked once."""
        rows = await doctor(*HOSTS, environment=environment, BASE_URL=f"{token_server.url}/api")
        assert ["API: request"] == [name for name in rows if name.startswith("API")]

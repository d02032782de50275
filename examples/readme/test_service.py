import asyncio
from aiohttp.test_utils import TestClient, TestServer
from simplestore_async.sandbox import Sandbox
from service import create_app


async def fetch_twice(sandbox: Sandbox) -> None:
    async with TestClient(TestServer(create_app())) as client:
        for _ in range(2):
            async with client.get("/") as response:
                assert response.status == 200
            sandbox.revoke_all()  # the API responds 401 to the current token


def test_revoked_token_is_replaced(simplestore_sandbox: Sandbox) -> None:
    asyncio.run(fetch_twice(simplestore_sandbox))
    assert simplestore_sandbox.counters.token_requests == 2

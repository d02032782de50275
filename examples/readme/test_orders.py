import asyncio
from simplestore_async import open_session


async def count_orders():  # the program under test
    async with open_session() as session, session.get("orders") as response:
        response.raise_for_status()


def test_revoked_token_is_replaced(simplestore_sandbox):
    asyncio.run(count_orders())
    simplestore_sandbox.revoke_all()  # the API responds 401 to the old token
    asyncio.run(count_orders())
    assert simplestore_sandbox.counters.api_requests == 2

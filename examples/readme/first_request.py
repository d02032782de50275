import asyncio
from simplestore_async import open_session


async def main() -> None:
    async with open_session() as session, session.get("orders/42") as response:
        print(response.status, await response.text())


asyncio.run(main())

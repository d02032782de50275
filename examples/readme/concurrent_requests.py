import asyncio
from simplestore_async import FileTokenCache, open_session


async def main(paths: list[str]) -> list[int]:
    async with open_session(cache=FileTokenCache(), raise_for_status=True) as session:

        async def ship(path: str) -> int:
            async with session.post(path, json={"state": "shipped"}) as response:
                return response.status

        return await asyncio.gather(*map(ship, paths))


statuses = asyncio.run(main([f"orders/{number}" for number in range(10_000)]))
print(f"{len(statuses)} requests sent")

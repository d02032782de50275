"""Order Management to SimpleStore: one request per changed order.

Each line of the input is an order in JSON, with an `id`. The path is a placeholder for your API's:

`python order_management.py 'PATH/{id}' < changed-orders.jsonl`
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from simplestore_async import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE = 20


async def send_orders(template: str, orders: Iterable[dict[str, Any]]) -> int:
    """Send each order to its path; return their number.

    A refused order ends the run and all requests in flight. Run it again: PUT may be repeated.
    """
    room = asyncio.Semaphore(AT_ONCE)
    async with open_session(raise_for_status=True) as session:

        async def send(order: dict[str, Any]) -> None:
            path = template.format(id=quote(str(order["id"]), safe=""))
            async with room, session.put(path, json=order):
                pass

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send(order)) for order in orders]
    return len(tasks)


if __name__ == "__main__":
    sent = asyncio.run(send_orders(sys.argv[1], map(json.loads, sys.stdin)))
    print(f"{sent} orders sent")

from collections.abc import AsyncIterator
from aiohttp import ClientSession, web
from simplestore_async import open_session

SIMPLESTORE = web.AppKey("simplestore", ClientSession)


async def simplestore(app: web.Application) -> AsyncIterator[None]:
    async with open_session() as app[SIMPLESTORE]:
        yield


async def show(request: web.Request) -> web.Response:
    async with request.app[SIMPLESTORE].get("orders/42") as response:
        return web.json_response(await response.json())


def create_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(simplestore)
    app.router.add_get("/", show)
    return app


if __name__ == "__main__":
    web.run_app(create_app(), host="127.0.0.1", port=8080)

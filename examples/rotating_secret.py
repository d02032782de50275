"""A rotating secret, from a file or a vault.

It is read for every renewal, and once more at once if the endpoint refuses it.

`python rotating_secret.py FILE`
"""

from __future__ import annotations

import asyncio
import os
import sys

from simplestore_async import ClientCredentials, SecretFile, TokenProvider


async def read_vault() -> str:
    """Return the current secret; call your vault's client here."""
    return await asyncio.to_thread(os.environ.__getitem__, "SIMPLESTORE_CLIENT_SECRET")


def credentials_from(path: str | None) -> ClientCredentials:
    """Return credentials with a secret from a file, such as a mounted Kubernetes secret, or from the vault."""
    return ClientCredentials(
        client_id=os.environ["SIMPLESTORE_CLIENT_ID"],
        client_secret=SecretFile(path) if path else read_vault,
        token_url=os.environ["SIMPLESTORE_TOKEN_URL"],
    )


async def main(path: str | None) -> None:
    """Get a token, wait for a line on stdin, reject the token, and get another."""
    async with TokenProvider(credentials_from(path)) as provider:
        token = await provider.get_token()
        print("first token", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        provider.invalidate(token)
        await provider.get_token()
        print("second token", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))

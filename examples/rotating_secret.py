"""A secret that rotates: from a file that is replaced, or from a vault that is asked.

Both are asked again for every renewal, and once more at once when the endpoint refuses the one they gave.

`python rotating_secret.py FILE`
"""

from __future__ import annotations

import asyncio
import os
import sys

from simplestore_async import ClientCredentials, SecretFile, TokenProvider


async def ask_vault() -> str:
    """Return the secret as it is now; here would be your vault's client."""
    return await asyncio.to_thread(os.environ.__getitem__, "SIMPLESTORE_CLIENT_SECRET")


def credentials_from(path: str | None) -> ClientCredentials:
    """Return credentials whose secret is in a file, such as a mounted Kubernetes secret, or else in the vault."""
    return ClientCredentials(
        client_id=os.environ["SIMPLESTORE_CLIENT_ID"],
        client_secret=SecretFile(path) if path else ask_vault,
        token_url=os.environ["SIMPLESTORE_TOKEN_URL"],
    )


async def main(path: str | None) -> None:
    """Get a token, wait for a line on stdin, have it rejected, and get another."""
    async with TokenProvider(credentials_from(path)) as provider:
        token = await provider.get_token()
        print("first token", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        provider.invalidate(token)
        await provider.get_token()
        print("second token", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))

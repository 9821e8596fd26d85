"""Take a file from the wire: whole under its name, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator

from windlassd.blobs.datastore_folder import PART
from windlassd.blobs.handed import publish


async def receive(target: str, chunks: AsyncIterator[bytes]) -> tuple[int, str]:
    """Write ``chunks`` to ``target``, durably and in one step; returns the size and the SHA-256 as hex."""
    beside = f"{target}.{secrets.token_hex(4)}{PART}"
    digest, size = hashlib.sha256(), 0
    try:
        with open(beside, "wb") as out:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
        await asyncio.to_thread(publish, {beside: target})
    finally:
        if os.path.exists(beside):
            os.unlink(beside)
    return size, digest.hexdigest()

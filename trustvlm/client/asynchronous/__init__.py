"""The client for programs that use asyncio."""

from trustvlm.client.asynchronous.async_client import AsyncClient

__all__ = ["AsyncClient"]

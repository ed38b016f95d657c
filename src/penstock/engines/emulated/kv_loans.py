"""KV caches that emulated engines of one process lend each other.

The messages are those of vLLM's pull connectors (NIXL; vllm 0.32,
``distributed/kv_transfer/kv_connector/v1/nixl``). A transfer takes no time here; simulations count
its time.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from penstock.engines.emulated.engine import EmulatedEngine

LEASE_S = 30.0
"""Time for which an engine keeps a KV cache that nobody fetches: vLLM's ``kv_lease_duration``."""


class KvLoans:
    """The KV caches that are lent now, by the name that their engines gave them."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self._lease_s = lease_s
        self._lent: dict[str, tuple[EmulatedEngine, int]] = {}
        self.num_expired = 0

    def lend(self, engine: EmulatedEngine, name: str, request_id: int) -> Mapping[str, Any]:
        """Keep the KV cache of a request for another engine, for a limited time. Returns what that
        engine must be told."""
        key = f"{name}-{request_id}"
        self._lent[key] = engine, request_id
        asyncio.get_running_loop().call_later(self._lease_s, self._expire, key)
        return {"do_remote_prefill": True, "do_remote_decode": False, "remote_engine_id": name,
                "remote_request_id": key, "remote_block_ids": [request_id],
                "remote_host": "127.0.0.1", "remote_port": 0, "tp_size": 1}

    def fetch(self, told: Mapping[str, Any]) -> bool:
        """Take a KV cache over. Returns whether it was still there."""
        found = self._lent.pop(str(told.get("remote_request_id")), None)
        if found is not None:
            found[0].returned(found[1])
        return found is not None

    def _expire(self, key: str) -> None:
        found = self._lent.pop(key, None)
        if found is not None:
            self.num_expired += 1
            found[0].returned(found[1])

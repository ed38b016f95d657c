"""The summary of reused prompt prefixes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from penstock.metrics.record import Form


@dataclass(frozen=True, kw_only=True)
class PrefixReuse:
    """Prompt tokens of routed requests, and how many of them were computed before: by any replica
    (``available``), so recently that the caches of all replicas as one would have them
    (``pooled``), and in the cache of the chosen replica as the request was routed (``captured``)
    and as it began (``delivered``). ``tier_tokens`` were loaded from the tiers below the caches,
    which took ``load_s`` seconds of all replicas together."""

    prompt_tokens: int
    available_tokens: int
    pooled_tokens: int
    captured_tokens: int
    delivered_tokens: int
    tier_tokens: Annotated[Mapping[str, int] | None, Form.OPTIONAL] = None
    load_s: Annotated[float | None, Form.OPTIONAL] = None

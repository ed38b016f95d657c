"""A request as the client sent it: what a live system sees, and nothing more."""

from typing import NamedTuple

from penstock.core.slo import ServiceClass


class Request(NamedTuple):
    """One inference request.

    A named tuple rather than a dataclass because a simulation makes millions of them.
    ``prefix_hashes`` name the prompt's leading blocks of ``hash_block_tokens`` tokens, each hash
    covering everything before it, so equal hashes mean equal prefixes. The true output length is
    deliberately absent: only the simulator's oracle knows it.
    """

    request_id: int
    arrival_s: float
    prompt_tokens: int
    max_tokens: int
    service_class: ServiceClass
    model: str = ""
    tenant: str = "default"
    prefix_hashes: tuple[int, ...] = ()
    hash_block_tokens: int = 0

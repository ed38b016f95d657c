"""A request as the client sent it, without anything that a live system cannot see."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from penstock.core.forecast import Forecast
from penstock.core.slo import ServiceClass

AUTO = "auto"
"""The model name that leaves the choice of the model to the router."""

NO_FORECASTS: Mapping[str, Forecast] = MappingProxyType({})


class Needs(NamedTuple):
    """Requirements of a client beyond the service class: minimum expected quality (0 to 1), maximum
    price of the answer (money), replicas attested to run in confidential mode."""

    min_quality: float | None = None
    max_cost: float | None = None
    confidential: bool = False


NO_NEEDS = Needs()
CONFIDENTIAL = Needs(confidential=True)


class Request(NamedTuple):
    """One inference request.

    A named tuple rather than a dataclass because a simulation makes millions of them.
    ``prefix_hashes`` name the prompt's leading blocks of ``hash_block_tokens`` tokens, each hash
    covering everything before it, so equal hashes mean equal prefixes; tenants that share no
    caches have different hashes of equal prompts. An empty ``model`` leaves the choice to the
    router; ``forecasts`` are the predictions by model. ``session`` names a conversation with
    earlier requests. The KV cache of the first ``remote_tokens`` tokens of the prompt comes from
    another replica. A replica keeps the KV cache of a request that ``lends`` when the request has
    ended, until ``returned`` tells that another replica has it. ``hashes_are_exact`` says that the
    hashes are of the prompt's tokens, as the live index names blocks. ``adapter`` names the
    fine-tuned variant (LoRA) of the model, empty for the model itself. The true output length is
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
    needs: Needs = NO_NEEDS
    forecasts: Mapping[str, Forecast] = NO_FORECASTS
    session: str = ""
    remote_tokens: int = 0
    lends: bool = False
    hashes_are_exact: bool = False
    adapter: str = ""

"""Values of the section `gateway`: tenants, their rights and their prices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Span = Literal["day", "month", "total"]
Scope = Literal["ask", "spend", "metrics", "status", "drain", "deploy", "plan", "admin"]
"""A right of a client."""


@dataclass(frozen=True, slots=True)
class RequestParameters:
    """Parameters of a request for its answer. None means not stated.

    ``deadline_s`` is seconds from arrival to the last token, ``min_quality`` from 0 to 1,
    ``max_cost`` money for the whole answer.
    """

    service_class: str | None = None
    deadline_s: float | None = None
    min_quality: float | None = None
    max_cost: float | None = None
    confidential: bool | None = None


NO_REQUEST_PARAMETERS = RequestParameters()


@dataclass(frozen=True, slots=True)
class Alias:
    """A model name that stands for any of ``models`` (None: of all) with ``parameters``."""

    models: tuple[str, ...] | None = None
    parameters: RequestParameters = NO_REQUEST_PARAMETERS


@dataclass(frozen=True, slots=True)
class Budget:
    """Money for each ``per``: a day or a month of the UTC calendar, or in total.

    ``when_ledger_fails`` says whether requests are served while spending cannot be recorded.
    """

    amount: float
    per: Span = "month"
    when_ledger_fails: Literal["refuse", "serve"] = "refuse"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant. A limit that is None does not bind.

    ``model`` (a model or an alias) and ``defaults`` apply where a request states nothing. Every
    request of a ``confidential`` tenant is confidential.
    """

    name: str
    model: str | None = None
    defaults: RequestParameters = NO_REQUEST_PARAMETERS
    models: tuple[str, ...] | None = None
    service_classes: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_in_flight: int | None = None
    budget: Budget | None = None
    confidential: bool = False


@dataclass(frozen=True, slots=True)
class EngineTls:
    """Paths of PEM files: the CAs that engines are trusted by (None: the system's), and the
    gateway's own certificate with its key (None: in the file of ``cert``). Without ``verify``,
    engines' certificates are not checked."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Issuer:
    """An identity provider whose tokens are taken in the place of keys.

    ``tenants`` are pairs of a value of the claim ``tenant_claim`` and a tenant; without pairs, the
    value is the tenant's name. A token never has more than ``scopes``.
    """

    url: str
    audience: str
    jwks_url: str | None = None
    tenant_claim: str = "tenant"
    tenants: tuple[tuple[str, str], ...] = ()
    scope_claim: str = "scope"
    scopes: tuple[Scope, ...] = ("ask", "spend")


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Aliases by name, the tenants, the file of a forecaster for prompts, TLS to engines, and
    identity providers.

    ``shared_prefixes`` names groups of tenants that share prefix caches; True: all tenants do.
    """

    aliases: Mapping[str, Alias] = field(default_factory=dict)
    tenants: tuple[Tenant, ...] = ()
    forecasts: str | None = None
    engine_tls: EngineTls | None = None
    shared_prefixes: bool | tuple[tuple[str, ...], ...] = False
    issuers: tuple[Issuer, ...] = ()

    def prefix_domain(self, tenant: str) -> str:
        """Return the domain of the tenants that share prefix caches with a tenant, itself included;
        empty where all do."""
        if isinstance(self.shared_prefixes, bool):
            return "" if self.shared_prefixes else tenant
        # A group is another domain than any member: after a reload without the group, no member
        # finds there what the others sent.
        return next(("\n".join(group) for group in self.shared_prefixes if tenant in group), tenant)

    @property
    def confidential_tenants(self) -> frozenset[str]:
        """Return the names of tenants whose requests are all confidential."""
        return frozenset(tenant.name for tenant in self.tenants if tenant.confidential)


NO_GATEWAY_OPTIONS = GatewayOptions()

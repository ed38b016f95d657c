"""The section `gateway` of the fleet file: tenants, their rights and their prices."""

from typing import Literal

from penstock.fleet.fields import (
    Count,
    Endpoint,
    FilePath,
    Name,
    NotNegative,
    Positive,
    Section,
    ShareOrZero,
    described,
)
from penstock.fleet.values_gateway import Scope


class RequestParametersSection(Section):
    """Defaults for a request that does not state its own."""

    service_class: Name | None = described("Service class.", "interactive")
    deadline_s: Positive | None = described(
        "Time to the last token, seconds; narrows the class's e2e_s.", 30)
    min_quality: ShareOrZero | None = described("Least expected quality of the answer, 0 to 1.",
                                                0.7)
    max_cost: NotNegative | None = described("Most that the answer may cost, money.", 0.01)
    confidential: bool | None = described(
        "Whether only replicas attested to run in confidential mode may serve it.", True)


class AliasSection(RequestParametersSection):
    """A model name that stands for a set of models and for request parameters."""

    models: list[Name] | None = described("Models that may answer; left out, any.",
                                          ["llama-3-8b"])


class DefaultsSection(RequestParametersSection):
    """Defaults for a tenant's requests where neither the request nor the alias states a value."""

    model: Name | None = described("Model or alias, for requests that name none.", "auto")


class BudgetSection(Section):
    """Money that a tenant may spend."""

    amount: NotNegative = described("How much, in the unit of the models' prices.", 100,
                                    default=...)
    per: Literal["day", "month", "total"] = described(
        "Period of the budget: each day or calendar month in UTC, or total.", "month",
        default="month")
    when_ledger_fails: Literal["refuse", "serve"] = described(
        "Whether requests are served while spending cannot be recorded.", "serve",
        default="refuse")


class TenantSection(Section):
    """A tenant with its own keys. A limit that is left out does not apply."""

    name: Name = described("Name that keys and reports refer to.", "shop", default=...)
    defaults: DefaultsSection = described("Default parameters of its requests.",
                                          {"service_class": "interactive"},
                                          default=DefaultsSection.model_construct())
    models: list[Name] | None = described("Models that it may use; left out, all.",
                                          ["llama-3-8b"])
    service_classes: list[Name] | None = described("Service classes that it may use; left "
                                                   "out, all.", ["interactive"])
    confidential: bool = described(
        "Whether all its requests are confidential; a request cannot undo this.", True,
        default=False)
    requests_per_minute: Count | None = described("Most requests per minute.", 600)
    tokens_per_minute: Count | None = described(
        "Most tokens per minute, prompts and answers together.", 100_000)
    max_in_flight: Count | None = described("Most requests in flight at once.", 32)
    budget: BudgetSection | None = described("Money that it may spend.",
                                             {"amount": 100, "per": "month"})


class EngineTlsSection(Section):
    """How the gateway trusts engines with https:// endpoints, and shows itself to them."""

    ca: FilePath | None = described(
        "CAs that sign the engines' certificates (PEM); left out, the system's.", "engines-ca.pem")
    cert: FilePath | None = described(
        "Certificate that the gateway shows to engines (PEM); left out, none.", "gateway.pem")
    key: FilePath | None = described(
        "Key of cert (PEM, without a passphrase); left out, in the same file.", "gateway-key.pem")
    verify: bool = described(
        "Whether engines' certificates are checked; false lets anybody on the network pose as an "
        "engine.", True, default=True)


class IssuerSection(Section):
    """An identity provider (OpenID Connect) whose signed tokens are taken in the place of keys."""

    url: Endpoint = described(
        "Issuer, exactly as its tokens state it in `iss`; https://, or http:// on the loopback "
        "interface.", "https://login.example.com/realms/inference", default=...)
    audience: Name = described("Value that tokens must have in `aud`.", "penstock", default=...)
    jwks_url: Endpoint | None = described(
        "Address of the issuer's public keys; left out, as the issuer's "
        ".well-known/openid-configuration says.", "https://login.example.com/keys")
    tenant_claim: Name = described("Claim with the client's tenant.", "groups", default="tenant")
    tenants: dict[Name, Name] = described(
        "Tenant by value of that claim; left out, the value is the tenant's name.",
        {"/teams/shop": "shop"}, default={})
    scope_claim: Name = described(
        "Claim with scopes; of these `penstock:SCOPE` counts. Without any, a token has the scopes "
        "ask and spend.", "scope", default="scope")
    scopes: list[Scope] = described(
        "Most scopes that a token of this issuer may have.", ["ask", "spend", "metrics"],
        default=["ask", "spend"])


class GatewaySection(Section):
    """Tenants of `penstock serve`, and the model names that they may use."""

    aliases: dict[Name, AliasSection] = described(
        "Model names that stand for a set of models; `auto` (any model) always exists.",
        {"cheap": {"models": ["llama-3-8b"], "max_cost": 0.001}}, default={})
    forecasts: FilePath | None = described(
        "A forecaster of answers' length and quality, as `penstock lab train` writes it; left out, "
        "a model's mean quality and the lengths of a class so far.", "forecasts.npz")
    engine_tls: EngineTlsSection | None = described(
        "TLS to https:// endpoints and evidence; left out, certificates are checked by the "
        "system's CAs.", {"ca": "engines-ca.pem"})
    issuers: list[IssuerSection] = described(
        "Identity providers whose tokens are taken in the place of keys.",
        [{"url": "https://login.example.com", "audience": "penstock"}], default=[])
    shared_prefixes: bool | list[list[Name]] = described(
        "Whether tenants share prefix caches, and so may learn of each other's prompts: true, or "
        "groups of tenants that do.", [["shop", "nightly"]], default=False)
    tenants: list[TenantSection] = described(
        "Tenants, each with its own keys; left out, every key gives access to everything.",
        [{"name": "shop", "budget": {"amount": 100, "per": "month"}}], default=[])

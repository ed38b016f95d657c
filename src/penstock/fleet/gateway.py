"""Conversion of the gateway's section to values, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.core.errors import nearest
from penstock.core.loopback import is_private
from penstock.fleet.files import FileFinder
from penstock.fleet.problems import PlacedError
from penstock.fleet.values import ModelChoice
from penstock.fleet.values_gateway import (
    Alias,
    Budget,
    EngineTls,
    GatewayOptions,
    Issuer,
    RequestParameters,
    Tenant,
)

if TYPE_CHECKING:
    from penstock.fleet.document_gateway import (
        EngineTlsSection,
        GatewaySection,
        RequestParametersSection,
        TenantSection,
    )

_REQUEST_PARAMETERS = ("service_class", "deadline_s", "min_quality", "max_cost", "confidential")


def resolve_gateway(section: "GatewaySection | None",
                    models: Mapping[str, ModelChoice], files: FileFinder) -> GatewayOptions:
    """Return the gateway's options. ``models`` are by the file's own names. Raises PlacedError."""
    if section is None:
        return GatewayOptions()
    known = {model.spec.name for model in models.values()}
    for name in section.aliases:
        if name in known:
            raise PlacedError(("gateway", "aliases", name), "is a model's name; take another")
    aliases = {name: Alias(_names(alias.models, models), _request_parameters(alias))
               for name, alias in section.aliases.items()}
    forecasts = section.forecasts and files.find(section.forecasts, ("gateway", "forecasts"))
    return GatewayOptions(aliases, tuple(_tenant(one, models) for one in section.tenants),
                          forecasts, _engine_tls(section.engine_tls, files),
                          _shared_prefixes(section), _issuers(section))


def _engine_tls(section: "EngineTlsSection | None", files: FileFinder) -> EngineTls | None:
    if section is None:
        return None
    place = ("gateway", "engine_tls")
    if section.key is not None and section.cert is None:
        raise PlacedError((*place, "key"), "stands alone; expected cert beside it")
    if section.ca is not None and not section.verify:
        raise PlacedError((*place, "ca"), "is of no use with verify: false")
    found = {name: given and files.find(given, (*place, name)) for name, given in
             (("ca", section.ca), ("cert", section.cert), ("key", section.key))}
    return EngineTls(**found, verify=section.verify)


def _shared_prefixes(section: "GatewaySection") -> bool | tuple[tuple[str, ...], ...]:
    if isinstance(section.shared_prefixes, bool):
        return section.shared_prefixes
    known, seen = [tenant.name for tenant in section.tenants], set[str]()
    for i, group in enumerate(section.shared_prefixes):
        for j, name in enumerate(group):
            place = ("gateway", "shared_prefixes", i, j)
            if known and name not in known:
                raise PlacedError(place, f"no tenant {name!r}{nearest(name, known)}")
            if name in seen:
                raise PlacedError(place, f"{name!r} stands twice")
            seen.add(name)
    return tuple(tuple(sorted(group)) for group in section.shared_prefixes)


def _issuers(section: "GatewaySection") -> tuple[Issuer, ...]:
    known, found = [tenant.name for tenant in section.tenants], dict[str, Issuer]()
    for i, one in enumerate(section.issuers):
        place = ("gateway", "issuers", i)
        if not known:
            raise PlacedError(place, "needs tenants; expected gateway.tenants, of which a token "
                                     "names one")
        for name in ("url", "jwks_url"):
            if (text := getattr(one, name)) is not None and not is_private(text):
                raise PlacedError((*place, name), "would be read without TLS; expected https://, "
                                                  "or a host of the loopback interface")
        if one.url in found:
            raise PlacedError((*place, "url"), "stands twice")
        for value, tenant in one.tenants.items():
            if tenant not in known:
                raise PlacedError((*place, "tenants", value),
                                  f"no tenant {tenant!r}{nearest(tenant, known)}")
        found[one.url] = Issuer(one.url, one.audience, one.jwks_url, one.tenant_claim,
                                tuple(one.tenants.items()), one.scope_claim, tuple(one.scopes))
    return tuple(found.values())


def _tenant(section: "TenantSection", models: Mapping[str, ModelChoice]) -> Tenant:
    budget = None if section.budget is None else Budget(**section.budget.given())
    model = section.defaults.model
    if model is not None and model in models:
        model = models[model].spec.name
    return Tenant(
        section.name, model,
        _request_parameters(section.defaults), _names(section.models, models),
        None if section.service_classes is None else tuple(section.service_classes),
        section.requests_per_minute, section.tokens_per_minute, section.max_in_flight, budget,
        section.confidential)


def _request_parameters(section: "RequestParametersSection") -> RequestParameters:
    return RequestParameters(**{name: getattr(section, name) for name in _REQUEST_PARAMETERS})


def _names(names: list[str] | None, models: Mapping[str, ModelChoice]) -> tuple[str, ...] | None:
    return None if names is None else tuple(
        models[name].spec.name if name in models else name for name in names)


def gateway_section(options: GatewayOptions) -> dict[str, Any] | None:
    """Return the section of a file for these options, None where they are the defaults."""
    if options == GatewayOptions():
        return None
    return {"aliases": {name: {"models": _listed(alias.models), **asdict(alias.parameters)}
                        for name, alias in options.aliases.items()},
            "forecasts": options.forecasts,
            "engine_tls": options.engine_tls and asdict(options.engine_tls),
            "shared_prefixes": options.shared_prefixes
            if isinstance(options.shared_prefixes, bool)
            else [list(group) for group in options.shared_prefixes],
            "issuers": [{**asdict(one), "tenants": dict(one.tenants), "scopes": list(one.scopes)}
                        for one in options.issuers],
            "tenants": [_tenant_section(tenant) for tenant in options.tenants]}


def _tenant_section(tenant: Tenant) -> dict[str, Any]:
    section = asdict(tenant)
    section["defaults"]["model"] = section.pop("model")
    return {**section, "models": _listed(tenant.models),
            "service_classes": _listed(tenant.service_classes)}


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)

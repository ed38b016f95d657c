"""Aliases and tenants of a fleet file."""

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.values_gateway import (
    Alias,
    Budget,
    GatewayOptions,
    Issuer,
    RequestParameters,
    Tenant,
)
from support.small_fleet import FLEET


def options(section):
    return parse_fleet(FLEET, overrides={"gateway": section}).gateway


def test_what_is_left_out_does_not_bind() -> None:
    assert parse_fleet(FLEET).gateway == GatewayOptions()
    assert options({"tenants": [{"name": "shop"}]}).tenants == (Tenant("shop"),)
    assert options({"aliases": {"any": {}}}).aliases == {"any": Alias()}


def test_names_of_models_are_the_catalogs() -> None:
    fleet = parse_fleet(FLEET, overrides={
        "models": [{"name": "meta-llama/Meta-Llama-3-8B"}],
        "gateway": {"aliases": {"cheap": {"models": ["meta-llama/Meta-Llama-3-8B"]}},
                    "tenants": [{"name": "a", "models": ["meta-llama/Meta-Llama-3-8B"],
                                 "defaults": {"model": "meta-llama/Meta-Llama-3-8B"}}]}})
    assert fleet.models[0].spec.name == "llama-3-8b"
    assert fleet.gateway.aliases["cheap"].models == ("llama-3-8b",)
    assert fleet.gateway.tenants[0].models == ("llama-3-8b",)
    assert fleet.gateway.tenants[0].model == "llama-3-8b"


def test_everything_said_is_kept() -> None:
    found = options({
        "aliases": {"best": {"min_quality": 0.9, "confidential": False}},
        "tenants": [{"name": "shop", "defaults": {"model": "best", "deadline_s": 3},
                     "service_classes": ["chat"], "requests_per_minute": 6, "max_in_flight": 2,
                     "tokens_per_minute": 7, "budget": {"amount": 5}}]})
    assert found.aliases["best"] == Alias(None,
                                          RequestParameters(min_quality=0.9, confidential=False))
    assert found.tenants == (Tenant("shop", "best", RequestParameters(deadline_s=3), None,
                                    ("chat",),
                                    6, 7, 2,
                                    Budget(5, "month", "refuse")),)


ISSUER = {"url": "https://login.example.com", "audience": "penstock"}


def test_an_issuer_has_usual_claims_and_no_more_than_a_tenants_scopes() -> None:
    found = options({"tenants": [{"name": "shop"}], "issuers": [
        ISSUER, {**ISSUER, "url": "http://127.0.0.1:8080/", "tenant_claim": "groups",
                 "tenants": {"/teams/shop": "shop"}, "scopes": ["metrics"]}]})
    assert found.issuers == (
        Issuer("https://login.example.com", "penstock"),
        Issuer("http://127.0.0.1:8080/", "penstock", None, "groups", (("/teams/shop", "shop"),),
               "scope", ("metrics",)))


@pytest.mark.parametrize(("section", "said"), [
    ({"tenants": [{"name": "a"}, {"name": "a"}]}, "gateway.tenants[1].name: 'a' appears twice"),
    ({"tenants": [{"name": "a", "models": ["llama-3-9b"]}]},
     "gateway.tenants[0].models[0]: unknown model 'llama-3-9b'; did you mean 'llama-3-8b'?"),
    ({"tenants": [{"name": "a", "models": []}]}, "expected at least one entry"),
    ({"tenants": [{"name": "a", "service_classes": ["chats"]}]}, "did you mean 'chat'?"),
    ({"tenants": [{"name": "a", "defaults": {"service_class": "bach"}}]}, "did you mean 'batch'?"),
    ({"tenants": [{"name": "a", "defaults": {"model": "atuo"}}]}, "did you mean 'auto'?"),
    ({"tenants": [{"name": "a", "budget": {"amount": 5, "per": "week"}}]}, "budget.per: found"),
    ({"tenants": [{"name": "a", "budget": {"amount": -5}}]}, "expected at least 0"),
    ({"tenants": [{"name": "a", "budget": 5}]}, "expected a mapping"),
    ({"tenants": [{"name": "a", "request_per_minute": 5}]}, "did you mean 'requests_per_minute'?"),
    ({"aliases": {"cheap": {"max_costs": 1}}}, "did you mean 'max_cost'?"),
    ({"aliases": {"cheap": {"models": ["x"]}}}, "gateway.aliases.cheap.models[0]: unknown model"),
    ({"aliases": {"cheap": {"min_quality": 1.5}}}, "expected at most 1"),
    ({"tenants": [{"name": "abc"}], "shared_prefixes": [["abd"]]},
     "gateway.shared_prefixes[0][0]: no tenant 'abd'; did you mean 'abc'?"),
    ({"shared_prefixes": [["a", "b"], ["b"]]}, "shared_prefixes[1][0]: 'b' stands twice"),
    ({"shared_prefixes": "yes"}, "shared_prefixes"),
    ({"issuers": [ISSUER]}, "gateway.issuers[0]: needs tenants"),
    ({"tenants": [{"name": "abc"}], "issuers": [{**ISSUER, "url": "http://login.example.com"}]},
     "gateway.issuers[0].url: would be read without TLS"),
    ({"tenants": [{"name": "abc"}], "issuers": [{**ISSUER, "jwks_url": "http://keys.example"}]},
     "gateway.issuers[0].jwks_url: would be read without TLS"),
    ({"tenants": [{"name": "abc"}], "issuers": [ISSUER, ISSUER]},
     "gateway.issuers[1].url: stands twice"),
    ({"tenants": [{"name": "abc"}], "issuers": [{**ISSUER, "tenants": {"/a": "abd"}}]},
     "gateway.issuers[0].tenants.'/a': no tenant 'abd'; did you mean 'abc'?"),
    ({"tenants": [{"name": "abc"}], "issuers": [{**ISSUER, "scopes": ["asks"]}]}, "'ask'"),
    ({"tenants": [{"name": "abc"}], "issuers": [{"url": "https://x.example"}]}, "audience"),
    ({"aliases": {"llama-3-8b": {}}}, "is a model's name"),
    ({"alias": {}}, "did you mean 'aliases'?")])
def test_what_is_wrong_is_one_clear_line(section, said) -> None:
    with pytest.raises(InputError) as error:
        options(section)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_tenants_share_prefix_caches_only_knowingly() -> None:
    tenants = [{"name": name} for name in ("a", "b", "c")]
    alone, every = options({"tenants": tenants}), options({"shared_prefixes": True})
    assert [alone.prefix_domain(name) for name in "abc"] == ["a", "b", "c"]
    assert [every.prefix_domain(name) for name in "abc"] == ["", "", ""]
    some = options({"tenants": tenants, "shared_prefixes": [["b", "a"]]})
    found = [some.prefix_domain(name) for name in "abc"]
    assert found[0] == found[1] not in ("", "a", "b", "c")
    assert found[2] == "c"

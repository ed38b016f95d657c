"""Confidential requests at the gateway: which are, who may take them, what a refusal says."""

import asyncio
from itertools import chain, repeat

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.attestation import Attestation
from penstock.core.decision import Route, ScoredCandidate
from penstock.core.slo import ServiceClass
from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.state import EngineFacts, EngineState, EvidencePlace, InFlight
from penstock.fleet.values_gateway import Alias, RequestParameters, Tenant
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import ANYBODY, Offer, read_ask
from penstock.serving.gateway.choice import Chooser
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.forecasts import Forecasts

OPEN, FIRST, SECOND = "http://open", "http://first", "http://second"
PLACE = EvidencePlace("http://first/attestation", None, ("GPU-1",))
OFFER = Offer({"chat": ServiceClass("chat"), "secret": ServiceClass("secret", confidential=True)},
              {"m": 1000}, {"sealed": Alias(parameters=RequestParameters(confidential=True))})
BANK = Tenant("bank", confidential=True)
HEADER = "X-Penstock-Confidential"


def facts() -> list[EngineFacts]:
    return [EngineFacts(0, OPEN, "m", None, 1000, 1.0),
            EngineFacts(1, FIRST, "m", None, 1000, 1.0, confidential=True, evidence=PLACE),
            EngineFacts(2, SECOND, "m", None, 1000, 1.0, confidential=True,
                        evidence=PLACE._replace(source="http://second/attestation"))]


class GatewayConfig:
    """Engines that are well, and a chooser whose clock on the wall is moved by hand."""

    def __init__(self, known: list[EngineFacts] | None = None) -> None:
        self.engines = Engines(known or facts())
        self.wall_s = 1000.0
        self.chooser = Chooser(self.engines, LeastLoaded(), lambda: self.wall_s)
        for engine in self.engines:
            engine.observe(EngineLoad(), 0.0)

    def attest(self, number: int, from_s: float, until_s: float) -> None:
        self.engines[number].attested(Attestation("test", from_s, until_s, ("GPU-1",)))

    def ask(self, headers: dict[str, str] | None = None, tenant: Tenant = ANYBODY,
            **body: object) -> str:
        """The URL of the engine that gets such a request. Raises ServiceError."""
        ask = read_ask(orjson.dumps({"prompt": "x", "max_tokens": 5, **body}), headers or {},
                       OFFER, tenant)
        self.decision = self.chooser.open("d", ask, 0.0)

        async def run() -> EngineState:
            request = await Forecasts().request(0, 0.0, ask)
            return await self.chooser.choose(request, self.decision, ask, [], 0.0)

        return asyncio.run(run()).facts.url

    def refusal(self, **wanted: object) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            self.ask(**wanted)
        return caught.value


@pytest.mark.parametrize("wanted", [
    {"headers": {HEADER: "true"}}, {"penstock": {"confidential": True}}, {"model": "sealed"},
    {"headers": {"X-Penstock-Class": "secret"}}, {"tenant": BANK},
    {"tenant": Tenant("shop", defaults=RequestParameters(confidential=True))},
    # Class and tenant demand it whatever the request says.
    {"tenant": BANK, "headers": {HEADER: "false"}},
    {"headers": {HEADER: "false", "X-Penstock-Class": "secret"}}])
def test_it_goes_only_where_an_attestation_is_fresh(wanted: dict) -> None:
    config = GatewayConfig()
    config.attest(1, 900.0, 1010.0)
    assert config.ask(**wanted) == FIRST
    assert config.decision.rejected == {OPEN: "does not run in confidential mode",
                                       SECOND: "has no attestation"}
    assert config.decision.document()["attestation"] == {
        "verifier": "test", "measured_at_s": 900.0, "expires_at_s": 1010.0, "devices": ("GPU-1",),
        "digest": ""}
    config.attest(2, 1005.0, 1100.0)
    config.wall_s = 1012.0
    assert config.ask(**wanted) == SECOND
    assert config.decision.rejected[FIRST] == "has an attestation that has expired (2 s ago)"


def test_open_requests_go_anywhere_and_may_leave_their_tenant_s_default() -> None:
    config = GatewayConfig()
    shop = Tenant("shop", defaults=RequestParameters(confidential=True))
    assert config.ask() == OPEN
    assert config.ask(tenant=shop, headers={HEADER: "false"}) == OPEN


def test_an_open_request_s_decision_tells_no_load_of_engines_in_confidential_mode() -> None:
    config = GatewayConfig()
    config.engines[0].begin(1, InFlight(11, 5.0))
    for number in (2, 3, 4):  # confidential ones, say
        config.engines[1].begin(number, InFlight(4243, 1789.0))
    assert config.ask() == SECOND
    told = config.decision.document()
    open_one, first, _ = told["candidates"]
    assert (open_one["num_waiting"], open_one["queued_prompt_tokens"]) == (1, 11)
    assert (first["num_waiting"], first["num_running"]) == (16, 0)
    assert (first["queued_prompt_tokens"], first["pending_output_tokens"]) == (16384, 8192)
    assert first["queue"] == ()
    assert told["terms"] == {}


def test_what_was_expected_of_engines_in_confidential_mode_is_not_told() -> None:
    class Judging(LeastLoaded):
        looks_into_queues = True

        def route(self, request, replicas, now_s):
            assert [len(one.queue) for one in replicas] == [1, 1, 0], "a policy sees it all"
            return Route(0, {"load": 4243.0, "propensity": 0.5}, prospects=tuple(
                ScoredCandidate(one.replica_id, 1.0, 1.0, 0.0, 0.5, 4.243,
                                8.0) for one in replicas))

    config = GatewayConfig()
    config.chooser.use(Judging())
    for engine in config.engines[:2]:
        engine.begin(1, InFlight(4243, 1789.0))
    assert config.ask() == OPEN
    told = config.decision.document()
    assert [len(one["queue"]) for one in told["candidates"]] == [1, 0, 0]
    assert [one["url"] for one in told["prospects"]] == [OPEN]
    assert told["terms"] == {"propensity": 0.5}


def test_where_nobody_is_attested_the_refusal_says_why_and_whether_to_come_back() -> None:
    config = GatewayConfig()
    config.attest(1, 900.0, 990.0)
    config.engines[2].doubted("its evidence says that debug mode is on", revoked=True)
    error = config.refusal(headers={HEADER: "true"})
    assert (error.status, error.code, error.headers["Retry-After"]) == (503, "no_engine", "1")
    for said in ("replica 0 does not run in confidential mode",
                 "replica 1 has an attestation that has expired (10 s ago)",
                 "replica 2 has no attestation (its evidence says that debug mode is on)"):
        assert said in str(error)
    never = GatewayConfig([facts()[0], EngineFacts(1, FIRST, "m", None, 1000, 1.0,
                                                   confidential=True)])
    error = never.refusal(headers={HEADER: "true"})
    assert (error.status, error.code) == (400, "needs_unmet"), "coming back is no use"
    assert "replica 1 has no attestation" in str(error)


def test_evidence_that_cannot_be_had_leaves_what_was_shown_before() -> None:
    config = GatewayConfig()
    config.attest(1, 900.0, 1010.0)
    config.engines[1].doubted("it did not answer", revoked=False)
    assert config.ask(tenant=BANK) == FIRST
    config.wall_s = 1011.0
    assert "expired (1 s ago; it did not answer)" in str(config.refusal(tenant=BANK))
    config.attest(1, 1011.0, 1100.0)
    assert config.ask(tenant=BANK) == FIRST
    config.engines[1].doubted("it is of another device", revoked=True)
    assert "no attestation (it is of another device)" in str(config.refusal(tenant=BANK))


def test_an_engine_that_is_only_left_alone_for_a_while_is_no_way_round() -> None:
    config = GatewayConfig()
    config.engines[1].eject("fails too often", 0.0)
    config.engines[2].lost()
    config.refusal(tenant=BANK)
    config.attest(1, 900.0, 1010.0)
    assert config.ask(tenant=BANK) == FIRST


def test_an_attestation_does_not_outlive_a_change_of_where_evidence_is() -> None:
    config = GatewayConfig()
    config.attest(1, 900.0, 1010.0)
    config.engines.adopt(facts())
    assert config.ask(tenant=BANK) == FIRST
    moved = facts()
    moved[1] = EngineFacts(1, FIRST, "m", None, 1000, 1.0, confidential=True,
                           evidence=PLACE._replace(devices=("GPU-9",)))
    config.engines.adopt(moved)
    assert "not verified yet" in str(config.refusal(tenant=BANK))


def test_an_attestation_that_ends_while_it_is_decided_is_not_relied_on() -> None:
    config = GatewayConfig()
    config.attest(1, 900.0, 1010.0)
    times = chain((1009.0, 1009.0), repeat(1010.0))  # two engines are looked at, one is taken
    config.chooser = Chooser(config.engines, LeastLoaded(), lambda: next(times))
    assert "has expired (0 s ago)" in str(config.refusal(tenant=BANK))

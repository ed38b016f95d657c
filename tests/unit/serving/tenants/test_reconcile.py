"""A ledger that is right has no differences, and each way of being wrong is one line."""

import asyncio
import time

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import orjson
from sqlalchemy import text

from penstock.core.errors import InputError
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.tenants.claims import Claim
from penstock.serving.tenants.reconcile import reconcile
from penstock.serving.tenants.records import Batch, Opening, Settlement
from penstock.serving.tenants.store import open_store
from penstock.serving.tenants.tables import METADATA
from support import misbehaving_engines as odd
from support.gateway_with_keys import home
from support.reconciled import differences

NOW_S = 1_000_000.0
ALIVE = """# TYPE penstock:gateway_info gauge
penstock:gateway_info{gateway="g"} 1.0
"""


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "sqlite":
        found = open_store(f"sqlite:///{tmp_path}/ledger.db")
    else:
        found = open_store(request.getfixturevalue("postgres"))
        METADATA.drop_all(found._engine)
        found.create()
    batch = Batch()
    for number in range(3):
        batch.add(Settlement(f"d{number}", "shop", "m", NOW_S + number + 0.5, 3, 4, 7,
                             disputed=number == 2))
    batch.add(Opening("open", "shop", NOW_S, 100, "m", 1, 1, 10))
    found.claim(Claim("k", "b", "d0"), "g", {"d0"}, NOW_S)
    batch.settlements["d0"] = batch.settlements["d0"]._replace(keyed=True)
    found.beat("g", "elsewhere", 1, NOW_S)
    found.write(batch, "g")
    yield found
    found.close()


def lines(store, decisions=(), metrics=(), now_s=NOW_S + 9.0):
    return reconcile(store, now_s, decisions, metrics).differences


def change(store, statement):
    with store._engine.begin() as connection:
        connection.execute(text(statement))


def test_a_right_ledger(store) -> None:
    found = reconcile(store, NOW_S + 9.0)
    assert found == (3, 0, [])


@pytest.mark.parametrize(("statement", "said"), [
    ("update penstock_charges set charged_nanos = 8 where decision_id = 'd1'",
     "sum of shop, 1970-01-12, m: charged_nanos is 21, and that of its charges is 22"),
    ("delete from penstock_charges where decision_id = 'd1'",
     "sum of shop, 1970-01-12, m: num_requests is 3, and that of its charges is 2"),
    ("update penstock_spend set num_disputed = 0",
     "sum of shop, 1970-01-12, m: num_disputed is 0, and that of its charges is 1"),
    ("update penstock_open set decision_id = 'd1'", "decision d1: is charged and still open"),
    ("update penstock_open set charged_nanos = 101",
     "decision open: 1.01e-07 is recorded, above 1e-07 held"),
    ("update penstock_charges set prompt_tokens = -3 where decision_id = 'd1'",
     "decision d1: tokens or charge are below 0"),
    ("update penstock_charges set prompt_tokens = 0, output_tokens = 0 where decision_id = 'd1'",
     "decision d1: 7e-09 is charged for no token"),
    ("update penstock_repeats set charged_nanos = 9",
     "decision d0: its idempotency key tells a charge of 9e-09, and 7e-09 is charged")])
def test_a_wrong_ledger(store, statement, said) -> None:
    change(store, statement)
    assert said in lines(store)


def test_open_records_of_a_dead_gateway_are_named(store) -> None:
    assert lines(store, now_s=NOW_S + 999.0) == [
        "gateway g (elsewhere, process 1): is dead and has 1 open requests, 1e-08 so far; "
        "the next gateway charges them"]


def decision(name, tokens=(3, 4), nanos=7, disputed=None, gateway="g", **more):
    return {"decision_id": name, "tenant": "shop", "gateway": gateway, "settled_at_s": NOW_S + 0.5,
            "outcome": {"outcome": "finished", "prompt_tokens": tokens[0],
                        "output_tokens": tokens[1], "charged_nanos": nanos, "dispute": disputed},
            **more}


def logged(tmp_path, *documents, tail=b""):
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in documents) + tail)
    return [path]


RIGHT = (decision("d0"), decision("d1"), decision("d2", disputed="why"))


def test_a_log_that_tells_the_same(store, tmp_path) -> None:
    refused = decision("x", (0, 0), 0)
    assert lines(store, logged(tmp_path, *RIGHT, refused)) == []
    old = {"decision_id": "of release 0.2", "outcome": {"outcome": "finished"}}
    (tmp_path / "decisions.jsonl.1").write_bytes(orjson.dumps(old) + b"\n")
    assert lines(store, logged(tmp_path, *RIGHT)) == []


@pytest.mark.parametrize(("documents", "tail", "said"), [
    (RIGHT[:2], b"", ["decision d2: is charged and not in the log"]),
    ((*RIGHT, decision("d9")), b"",
     ["decision d9: the log has shop, 3 + 4 tokens, 7 nanos, the ledger no charge"]),
    ((*RIGHT[:2], decision("d2", (3, 5), disputed="why")), b"",
     ["decision d2: the ledger has shop, 3 + 4 tokens, 7 nanos, disputed, the log shop, 3 + 5 "
      "tokens, 7 nanos, disputed"]),
    ((*RIGHT, RIGHT[0]), b"", ["decision d0: stands in the log twice, again at "
                               "{file}:4"]),
    (RIGHT, b'{"decision_id": "d7", "outc', ["{file}:4: is no whole decision"])])
def test_a_log_that_tells_otherwise(store, tmp_path, documents, tail, said) -> None:
    files = logged(tmp_path, *documents, tail=tail)
    assert lines(store, files) == [one.replace("{file}", str(files[0])) for one in said]


def test_what_was_resolved_may_be_less_than_the_log_tells(store, tmp_path) -> None:
    change(store, "update penstock_charges set resolved = true, gateway = 'old'")
    more = [decision(name, (3, 9), 12, dispute) for name, dispute in (
        ("d0", None), ("d1", None), ("d2", "why"))]
    assert lines(store, logged(tmp_path, *more)) == []


def test_metrics_beside_charges_and_decisions(store, tmp_path) -> None:
    right = ALIVE + """penstock:tenant_charged_total{tenant="shop"} 2.1e-08
penstock:prompt_tokens_total{model_name="m",service_class="c"} 9.0
penstock:generation_tokens_total{model_name="m",service_class="c"} 12.0
penstock:usage_disputed_total{url="http://x"} 1.0
penstock:requests_total{model_name="m",service_class="c",outcome="finished"} 3.0
"""
    files = logged(tmp_path, *RIGHT)
    assert lines(store, files, [right]) == []
    wrong = right.replace("2.1e-08", "2.2e-08").replace("12.0", "13.0").replace(" 3.0", " 4.0")
    assert lines(store, files, [wrong]) == [
        "metrics of gateway g: shop was charged 2.2e-08, and the ledger has 2.1e-08",
        "metrics of gateway g: penstock:generation_tokens_total is 13, and that of its charges is "
        "12",
        "metrics of gateway g: 4 requests finished, and the log has 3"]
    for text_, said in (("# nothing", "with a ledger"), ("{{{", "Prometheus' text format")):
        with pytest.raises(InputError, match=said):
            lines(store, metrics=[text_])


def test_a_gateway_of_all_sorts_of_engines_has_no_differences(tmp_path) -> None:
    log, turns = DecisionLog(tmp_path / "log.jsonl", print), []

    async def handler(request):
        turns.append(1)
        kinds = (odd.well, odd.killed, odd.internal, odd.half_closed, odd.an_error_in_the_middle,
                 odd.too_many)
        return await kinds[len(turns) % len(kinds)](request)

    async def run():
        async with odd.engine(handler) as url, home(tmp_path, urls=[url], log=log,
                                                    speed=50.0) as found:
            async def one(number):
                try:
                    async with asyncio.timeout(0.001 if number % 7 == 0 else 10.0):
                        await found.ask("shop" if number % 2 else "bar", stream=number % 3 > 0,
                                        prompt="x", headers={"Idempotency-Key": str(number % 40)})
                except TimeoutError:
                    pass  # the client leaves

            await asyncio.gather(*(one(number) for number in range(120)))
            until_s = time.monotonic() + 20
            while any(tenant["num_in_flight"] for tenant in (await found.get(
                    "admin", "/v1/penstock/spend"))[1]["tenants"]):
                assert time.monotonic() < until_s
                await asyncio.sleep(0.02)
            return (await found.get("admin", "/metrics"))[1].decode()

    metrics = asyncio.run(asyncio.wait_for(run(), 60))
    log.close()
    url = f"sqlite:///{tmp_path}/ledger.db"
    assert differences(url, [tmp_path / "log.jsonl"], [metrics]) == []
    store = open_store(url)
    assert reconcile(store, time.time()).num_charges > 0
    store.close()

"""Load on emulated engines and on servers that misbehave."""

import asyncio
from dataclasses import replace
from itertools import count

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from aiohttp import web

from penstock.core.errors import InputError
from penstock.core.slo import Slo
from penstock.engines.client.client import ClientTimeouts
from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.experiment.load.bench import Target, bench
from penstock.experiment.load.plan import LoadOptions, fleet_plan, option_plan
from penstock.experiment.load.sweep import level_row, sweep
from penstock.experiment.load.template import CLASS_HEADER, RequestTemplate
from penstock.fleet.load import parse_fleet
from penstock.serving.gateway import ask
from support.fake_http_engines import (
    DONE,
    event,
    http_engine,
    nobody,
    raw_engine,
    streaming,
    token,
    usage,
    whole,
)
from support.small_fleet import FLEET

QUICK = LoadOptions(2000.0, 30, prompt="20", output="3", slo=Slo(ttft_s=60.0))
ANSWER = (token("a"), token("b"), token("c", "length"),
          event({"choices": [], "usage": usage(20, 3)}), DONE)


def ran(server, plan=None, **how):
    async def run():
        async with server as url:
            return await bench(Target(url, **how), plan or option_plan(QUICK))

    return asyncio.run(run())


def after(num, handler, good=None):
    """Answers ``num`` requests well, the probe's among them, and then as ``handler`` does."""
    numbers = count()
    good = good or streaming(*ANSWER)

    async def answer(request):
        return await (good if next(numbers) < num else handler)(request)

    return answer


@pytest.mark.parametrize("name", [None, "chat"])
def test_a_class_is_told_where_one_was_named(name) -> None:
    told = []

    async def answer(request):
        told.append(request.headers.get(CLASS_HEADER))
        return await streaming(*ANSWER)(request)

    found = ran(http_engine(answer), option_plan(replace(QUICK, class_name=name)))
    assert set(told) == {name}
    assert list(found.summary.document()["classes"]) == [name or "default"]


def test_the_header_is_the_gateways() -> None:
    assert CLASS_HEADER == ask.CLASS_HEADER


def test_every_request_of_a_fleet_is_sent_as_planned() -> None:
    async def run():
        fleet = parse_fleet(FLEET, overrides={"traffic[0].rate_per_s": 2000})
        async with emulated_cluster(fleet, EmulatorOptions(speed=1000)) as cluster:
            (one,) = cluster.replicas
            manner = RequestTemplate(class_to_engine=True)
            return await bench(Target(one.url, manner), fleet_plan(fleet)), one.server

    found, _ = asyncio.run(run())
    table, summary = found.table, found.summary.document()
    assert len(table) == summary["outcomes"]["finished"] == 60
    assert set(table.prompt_tokens.tolist()) == {400}
    assert set(table.output_tokens.tolist()) == {40}
    assert summary["classes"]["chat"]["received"] + summary["classes"]["batch"]["received"] == 60
    assert summary["engine"] == "live"
    assert summary["load"]["tokens_per_word"] == 1.0
    assert summary["generator"]["output_tokens_off"]["largest"] == 0.0


@pytest.mark.parametrize(("handler", "kind", "status"), [
    (whole({"error": {"message": "busy"}}, 429), "refused", "rejected"),
    (whole({"error": {"message": "pay", "code": "insufficient_quota"}}, 429), "out_of_budget",
     "rejected"),
    (whole({"error": {"message": "no"}}, 400), "invalid", "rejected"),
    (whole({"error": {"message": "oh"}}, 500), "failed", "shed"),
    (streaming(token("a")), "broken", "shed"),
    (streaming(b"data: garbage\n\n"), "broken", "shed"),
    (streaming(token("a"), event({"error": {"message": "oh"}}), DONE), "failed", "shed"),
])
def test_failures_stay_in_the_denominators(handler, kind, status) -> None:
    found = ran(http_engine(after(12, handler)))
    counts = found.summary.document()["outcomes"]
    assert counts["sent"] == 30
    assert counts["finished"] == 10  # two requests were the probe's
    assert sum(counts["failed"][kind].values()) == 20
    overall = found.summary.document()["overall"]
    assert (overall["received"], overall[status], overall["met"]) == (30, 20, 10)
    assert overall["attainment"] == pytest.approx(1 / 3)
    assert not found.meets
    (reason,) = found.summary.document()["refusals"]
    assert reason["num_requests"] == 20
    assert reason["example"]


@pytest.mark.parametrize(("parts", "when"), [
    ((), "before_first_token"), ((token("a"),), "after_first_token")])
def test_servers_that_hang(parts, when) -> None:
    async def hang(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await asyncio.sleep(60)
        return response

    # Without a token any patience is too short; with one it must be long enough for that.
    patience = ClientTimeouts(total_s=3.0) if parts else ClientTimeouts(first_token_s=0.1)
    found = ran(http_engine(after(2, hang)), patience=patience)
    assert found.summary.document()["outcomes"]["failed"] == {"timed_out": {
        "before_first_token": 0, "after_first_token": 0, when: 30}}


def test_an_engine_that_cannot_stream_is_measured_and_the_result_says_so() -> None:
    found = ran(http_engine(whole({"choices": [{"text": "a b c", "finish_reason": "stop"}],
                                   "usage": usage(20, 3)})))
    assert found.summary.document()["outcomes"]["finished"] == 30
    assert found.summary.document()["generator"]["not_streamed"] == 30
    assert any("one piece" in note for note in found.summary.document()["load"]["notes"])
    assert found.table.ttft_s.tolist() == found.table.e2e_s.tolist()


def test_what_a_server_does_not_take_is_left_out_and_said() -> None:
    async def strict(request):
        body = await request.json()
        unknown = set(body) & {"ignore_eos", "min_tokens", "max_tokens"}
        if unknown:
            return web.json_response({"error": {"message": f"unknown {unknown}"}}, status=400)
        assert body["max_completion_tokens"] in (1, 3)
        return await streaming(
            event({"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}],
                   "usage": usage(20, 1)}), DONE)(request)

    found = ran(http_engine(strict), manner=RequestTemplate("chat"))
    assert found.summary.document()["outcomes"]["finished"] == 30
    assert found.summary.document()["load"]["exact_outputs"] is False
    assert any("ignore_eos" in note for note in found.summary.document()["load"]["notes"])


def test_lengths_are_fitted_to_how_the_server_counts() -> None:
    async def wordy(request):
        words = len((await request.json())["prompt"].split())
        return await streaming(token("a", "length", usage=usage(7 + 2 * words, 1)), DONE)(request)

    found = ran(http_engine(wordy), option_plan(LoadOptions(2000.0, 5, prompt="107", output="1")))
    assert found.table.prompt_tokens.tolist() == [107] * 5


@pytest.mark.parametrize(("server", "said"), [
    (nobody, "does not answer"),
    (lambda: http_engine(whole({"error": {"message": "no such model"}}, 404)), "no such model"),
    (lambda: raw_engine([]), "does not answer")])
def test_a_server_that_takes_nothing_is_an_error(server, said) -> None:
    with pytest.raises(InputError, match=said):
        ran(server())


def test_a_server_without_usage() -> None:
    found = ran(http_engine(streaming(token("a"), token("b", "stop"), DONE)))
    assert found.table.output_tokens.tolist() == [2] * 30
    assert found.summary.document()["generator"]["without_usage"] == 30


def test_keys_are_in_no_result() -> None:
    secret = {"api_key": "sk-very-secret", "tenant_keys": {"acme": "sk-very-secret"},
              "headers": {"X-Token": "sk-very-secret"}}
    found = ran(http_engine(streaming(*ANSWER)), **secret)
    assert b"sk-very-secret" not in orjson.dumps(found.summary.document())
    assert found.summary.document()["load"]["headers"] == ["X-Token"]
    assert "sk-very-secret" not in repr(Target("http://a", **secret))


def test_every_tenant_asks_with_its_own_key_and_every_request_has_the_headers() -> None:
    seen = []

    async def look(request):
        seen.append((request.headers["Authorization"], request.headers["X-Budget"]))
        return await streaming(*ANSWER)(request)

    fleet = parse_fleet(FLEET, overrides={
        "traffic[0].rate_per_s": 2000, "traffic[0].tenants": {"acme": 0.5, "umbrella": 0.5}})
    found = ran(http_engine(look), fleet_plan(fleet), api_key="sk-other",
                tenant_keys={"acme": "sk-acme"}, headers={"X-Budget": "1"})
    table = found.table
    by_acme = int((table.tenant_index == table.tenants.index("acme")).sum())
    sent = [key for key, _ in seen[2:]]
    assert sent.count("Bearer sk-acme") == by_acme > 0
    assert sent.count("Bearer sk-other") == 60 - by_acme > 0
    assert {budget for _, budget in seen} == {"1"}


@pytest.mark.parametrize(("variable", "levels"), [("concurrency", [1, 3]),
                                                  ("rate_per_s", [500.0, 1000.0])])
def test_sweeps(variable, levels) -> None:
    bodies = []

    async def look(request):
        bodies.append((await request.json())["prompt"])
        return await streaming(*ANSWER)(request)

    async def run():
        async with http_engine(look) as url:
            return [(level, run) async for level, run in sweep(Target(url), plan_at, levels)]

    def plan_at(level):
        if variable == "rate_per_s":
            return option_plan(replace(QUICK, rate_per_s=level))
        return option_plan(QUICK, timed=False).at_concurrency(level, 12, None)

    found = asyncio.run(run())
    num = 12 if variable == "concurrency" else 30
    assert [level for level, _ in found] == levels
    assert len(bodies) == 2 + 2 * num, "the server is asked once how it counts"
    assert len(set(bodies)) == len(bodies), "no level finds another's prompts in a cache"
    rows = [level_row(variable, level, run) for level, run in found]
    assert [(row[variable], row["sent"], row["finished"]) for row in rows] == [
        (level, num, num) for level in levels]
    assert all(row["meets_slo"] for row in rows)


def test_requests_of_the_warm_up_are_sent_and_not_counted() -> None:
    async def run():
        fleet = parse_fleet(FLEET, overrides={"traffic[0].rate_per_s": 1000, "run.warmup_s": 0.02})
        async with http_engine(streaming(*ANSWER)) as url:
            return await bench(Target(url), fleet_plan(fleet))

    found = asyncio.run(run())
    counted = found.table.arrival_s >= 0.02
    assert len(found.table) == found.summary.document()["outcomes"]["sent"] == 60
    assert 0 < found.summary.document()["overall"]["received"] == counted.sum() < 60


@pytest.mark.parametrize("cut", ["half-closed", "reset"])
def test_connections_that_end_in_the_middle(cut) -> None:
    """Of every other request the server sends one token and ends the connection, well or not."""
    numbers = count()

    async def answer(request):
        if next(numbers) % 2 == 0:
            return await streaming(*ANSWER)(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(token("a"))
        if cut == "reset":
            request.transport.abort()
        else:
            request.transport.write_eof()
            await asyncio.sleep(0.05)
            request.transport.close()
        return response

    found = ran(http_engine(answer), option_plan(
        LoadOptions(2000.0, 20, prompt="20", output="3")),
        manner=RequestTemplate(model="fake", exact=False))
    outcomes = found.summary.document()["outcomes"]
    assert outcomes["finished"] == 10
    assert outcomes["failed"] == {"broken": {"before_first_token": 0, "after_first_token": 10}}


def test_a_run_that_is_stopped_keeps_what_came() -> None:
    stop = None

    async def hang(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(token("a"))
        stop.set()
        await asyncio.sleep(60)
        return response

    async def run():
        nonlocal stop
        stop = asyncio.Event()
        plan = option_plan(replace(QUICK, arrivals="constant", rate_per_s=20.0, num_requests=2000))
        async with http_engine(after(2 + 5, hang)) as url:
            return await bench(Target(url, RequestTemplate(model="fake")), plan, stop=stop)

    found = asyncio.run(run())
    outcomes = found.summary.document()["outcomes"]
    assert outcomes["finished"] == 5
    assert sum(outcomes["failed"]["cut_off"].values()) == outcomes["sent"] - 5 > 0
    assert found.summary.document()["overall"]["unfinished"] == outcomes["sent"] - 5
    assert any("interrupted" in note for note in found.summary.document()["load"]["notes"])


def test_a_run_that_is_stopped_at_once_is_no_run() -> None:
    async def run():
        stop = asyncio.Event()
        stop.set()
        async with http_engine(streaming(*ANSWER)) as url:
            await bench(Target(url, RequestTemplate(model="fake")), option_plan(QUICK), stop=stop)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run())


# -- sessions --------------------------------------------------------------------------------------

def agent_rows(num, turns=3):
    """Sessions that begin together, a few milliseconds of tool time between turns."""
    return [{"session_id": f"s{number}", **({"timestamp": number} if not turn else {"delay": 2}),
             "input_length": 20 + 10 * turn, "output_length": 3}
            for turn in range(turns) for number in range(num)]


def agent_plan(tmp_path, rows, **options):
    path = tmp_path / "agents.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return option_plan(LoadOptions(trace=path, slo=Slo(ttft_s=60.0, task_s=60.0), **options))


def test_sessions_are_sent_turn_by_turn_and_counted_as_tasks(tmp_path):
    plan = agent_plan(tmp_path, agent_rows(5))
    seen = []

    async def handler(request):
        seen.append((request.headers.get("X-Penstock-Session"), (await request.json())["prompt"]))
        return await streaming(*ANSWER)(request)

    run = ran(http_engine(handler), plan)
    assert run.measured.outcomes.sent == run.measured.outcomes.finished == 15
    tasks = run.summary.classes["default"].tasks
    assert (tasks.began, tasks.finished, tasks.met, tasks.requests) == (5, 5, 5, 15)
    assert run.measured.load["sessions"] == 5
    table, links = run.table, plan.workload.links
    order = table.request_id.argsort()
    arrival_s, last_s = table.arrival_s[order], table.last_token_s[order]
    assert (arrival_s[links.row] >= last_s[links.after] + links.delay_s - 1e-9).all()
    sessions = [session for session, _ in seen if session is not None]
    assert len({*sessions}) == 5
    assert len(sessions) == 15


def test_a_session_with_a_failed_turn_goes_on_and_is_missed(tmp_path):
    async def refused(request):
        return web.json_response({"error": {"message": "no"}}, status=503)

    run = ran(http_engine(after(3, refused)), agent_plan(tmp_path, agent_rows(1)))
    assert run.measured.outcomes.sent == 3
    assert run.measured.outcomes.finished < 3
    tasks = run.summary.classes["default"].tasks
    assert (tasks.began, tasks.finished, tasks.met) == (1, 0, 0)


def test_recorded_times_give_way_to_answers_where_asked(tmp_path):
    rows = [{"session_id": "a", "timestamp": number, "input_length": 20, "output_length": 3}
            for number in range(3)]
    assert agent_plan(tmp_path, rows).workload.links is None
    assert len(agent_plan(tmp_path, rows, sessions=True).workload.links) == 4
    with pytest.raises(InputError, match="--sessions: only the requests of a trace"):
        option_plan(LoadOptions(sessions=True))


def test_a_fixed_number_in_flight_waits_for_no_turn(tmp_path):
    plan = agent_plan(tmp_path, agent_rows(2)).at_concurrency(2, None, None)
    run = ran(http_engine(streaming(*ANSWER)), plan)
    assert run.measured.outcomes.finished == 6
    assert run.summary.overall.tasks is None

"""What the load generator measures agrees with what the emulated engine journals of the same run.

No clock is asserted on. A client cannot hear of a token before the engine has computed it, nor the
engine of a request before it was sent: whatever the machine does, measured latencies are the
engine's own and something on top. How much that is, ``benchmarks/parity_live.py`` measures.
"""

import asyncio
import re

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from penstock.core.units import PS_PER_S
from penstock.engines.client.client import EngineClient, client_session
from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.experiment.load.bench import Target, bench
from penstock.experiment.load.plan import LoadOptions, option_plan
from penstock.experiment.load.prompts import Scale
from penstock.experiment.load.template import Probed, RequestTemplate
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.perf.step_time.clock import StepClock
from support.scheduler_runs import watch
from support.small_fleet import FLEET

NUM, SPEED = 40, 20.0


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The bench's run, the journal's records and the engine's metrics. Every prompt has a length of
    its own, by which a request is known on both sides."""
    folder = tmp_path_factory.mktemp("parity")
    trace = folder / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(
        f"{number * 0.01},{100 + 7 * number % 41 * 10},{5 + number % 9}\n"
        for number in range(NUM)))
    fleet = parse_fleet(FLEET)

    async def run():
        options = EmulatorOptions(speed=SPEED, journal_dir=folder)
        async with emulated_cluster(fleet, options) as found:
            (one,) = found.replicas
            target = Target(one.url, RequestTemplate(model="llama-3-8b"))
            result = await bench(target, option_plan(LoadOptions(trace=trace)),
                                 Probed(target.manner, Scale()))
            async with client_session() as session:
                return result, await EngineClient(session, one.url).metrics()

    result, metrics = asyncio.run(run())
    lines = (folder / "journal-0.jsonl").read_bytes().splitlines()
    records = [orjson.loads(line) for line in lines]
    return result, records, metrics.decode(), StepClock(step_time(fleet.replicas[0]))


def test_every_request_and_token_is_on_both_sides(both) -> None:
    run, records, metrics, clock = both
    added = {one["request"]["prompt_tokens"]: one for one in records if one["kind"] == "add"}
    tokens = watch(records, clock).token_ps
    table = run.table
    assert sorted(added) == sorted(table.prompt_tokens.tolist())
    assert len(added) == NUM == run.summary.document()["outcomes"]["finished"]
    for prompt, output in zip(table.prompt_tokens.tolist(), table.output_tokens.tolist(),
                              strict=True):
        assert len(tokens[added[prompt]["request"]["request_id"]]) == output

    def counted(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", metrics, re.M))

    assert counted("vllm:generation_tokens_total") == table.output_tokens.sum()
    assert counted("vllm:prompt_tokens_total") == table.prompt_tokens.sum()
    assert counted("vllm:request_success_total") == NUM
    assert counted("vllm:e2e_request_latency_seconds_count") == NUM


def test_measured_latencies_hold_the_engines_own(both) -> None:
    run, records, _, clock = both
    added = {one["request"]["prompt_tokens"]: one for one in records if one["kind"] == "add"}
    tokens = watch(records, clock).token_ps
    rounding_s = 1e-6
    for row, prompt in enumerate(run.table.prompt_tokens.tolist()):
        request = added[prompt]["request"]
        own_s = [moment / PS_PER_S - request["arrival_s"]
                 for moment in tokens[request["request_id"]]]
        sent_s = run.sent_s[row]
        assert run.sent_s[row] >= run.table.arrival_s[row]
        assert run.table.first_token_s[row] - sent_s >= own_s[0] / SPEED - rounding_s
        assert run.table.last_token_s[row] - sent_s >= own_s[-1] / SPEED - rounding_s
        assert run.table.e2e_s[row] >= run.table.ttft_s[row]

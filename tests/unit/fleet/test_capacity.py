"""Rates that one replica sustains, by recent lengths."""


from penstock.fleet.capacity import replica_capacity
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.policy.scale.protocol import Load

FLEET = parse_fleet("""\
name: one
accelerators: [{name: a100-80gb, count: 8}]
models: [{name: llama-3-8b}]
service_classes:
  - {name: chat, slo: {ttft_s: 1, itl_s: 0.05}}
  - {name: batch, slo: {e2e_s: 60}}
traffic: [{mix: {chat: 1}, lengths: {prompt: {fixed: 400}, output: {fixed: 40}}, rate_per_s: 5}]
replicas: [{count: 1}]
policies: {schedule: penstock}
""")


def rate(**lengths: tuple[tuple[int, int], ...]) -> float:
    capacity = replica_capacity(FLEET, FLEET.replicas[0], step_time)
    found = capacity({name: Load(1.0, recent) for name, recent in lengths.items()})
    assert found.in_time_per_s <= found.saturation_per_s
    return found.in_time_per_s


def test_longer_requests_lower_the_rate() -> None:
    short, long = rate(chat=((400, 40),)), rate(chat=((800, 80),))
    assert short > 1.5 * long > 0


def test_a_looser_target_raises_it() -> None:
    assert rate(batch=((2000, 100),)) > rate(chat=((2000, 100),)) > 0


def test_requests_that_no_replica_can_serve_in_time_do_not_end_the_rate() -> None:
    usual = rate(chat=((400, 40),) * 97)
    found = rate(chat=((400, 40),) * 97 + ((20_000, 40),) * 3)  # 20,000 tokens take over 1 s
    assert 0.3 < found < usual

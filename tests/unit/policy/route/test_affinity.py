"""Which replica has seen a prompt's beginning, and routing by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.prefix import PrefixAware
from support.small_routing import request, snapshot


def test_known_blocks_count_from_the_start_only() -> None:
    memory = PrefixMemory()
    memory.sent(request(prompt_tokens=64, hashes=(1, 2, 3, 4)), 7)
    asks = [((1, 2, 3, 4), 63), ((1, 2, 3, 9), 48), ((1, 9, 3, 4), 16), ((9, 2, 3, 4), 0)]
    for hashes, tokens in asks:  # at least one token is computed anew
        assert memory.cached_tokens(request(prompt_tokens=64, hashes=hashes), 7) == tokens
    assert memory.cached_tokens(request(prompt_tokens=64, hashes=(1, 2)), 8) == 0


def test_a_session_is_its_tenants_own() -> None:
    memory = PrefixMemory()
    memory.sent(request(prompt_tokens=500, session="talk", tenant="shop"), 1)
    assert memory.cached_tokens(request(prompt_tokens=700, session="talk", tenant="bar"), 1) == 0
    assert memory.cached_tokens(request(prompt_tokens=700, session="talk", tenant="shop"), 1) == 500


def test_a_session_is_known_where_it_was_last() -> None:
    memory = PrefixMemory()
    memory.sent(request(prompt_tokens=500, session="talk"), 1)
    more = request(prompt_tokens=700, session="talk")
    assert (memory.cached_tokens(more, 1), memory.cached_tokens(more, 2)) == (500, 0)
    memory.sent(more, 2)
    assert (memory.cached_tokens(more, 1), memory.cached_tokens(more, 2)) == (0, 699)
    assert memory.cached_tokens(request(prompt_tokens=100, session="talk"), 2) == 99


def test_the_longer_of_both_counts() -> None:
    memory = PrefixMemory()
    memory.sent(request(prompt_tokens=100, session="talk", hashes=(1, 2)), 1)
    assert memory.cached_tokens(request(prompt_tokens=300, session="talk", hashes=(1, 2)), 1) == 100


@pytest.mark.parametrize("prompt_tokens", [0, 1])
def test_of_nothing_nothing_is_known(prompt_tokens: int) -> None:
    memory = PrefixMemory()
    memory.sent(request(prompt_tokens=50, session="talk"), 1)
    assert memory.cached_tokens(request(prompt_tokens=prompt_tokens, session="talk"), 1) == 0
    assert not memory.knows(request())
    assert memory.knows(request(session="talk"))


def test_the_oldest_prompts_are_forgotten_first_and_from_their_end() -> None:
    memory = PrefixMemory(max_blocks=5)
    memory.sent(request(hashes=(1, 2, 3)), 0)
    memory.sent(request(hashes=(7, 8, 9)), 0)
    assert memory.cached_tokens(request(hashes=(7, 8, 9)), 0) == 48
    assert memory.cached_tokens(request(hashes=(1, 2, 3)), 0) == 32
    for session in "abcdefg":
        memory.sent(request(session=session), 0)
    assert [memory.cached_tokens(request(session=s), 0) for s in "abcg"] == [0, 0, 99, 99]


def test_a_replica_that_starts_anew_knows_nothing() -> None:
    memory = PrefixMemory()
    for replica in (0, 1):
        memory.sent(request(hashes=(1, 2), session=f"s{replica}"), replica)
    memory.forget([0])
    assert memory.cached_tokens(request(hashes=(1, 2), session="s0"), 0) == 0
    assert memory.cached_tokens(request(hashes=(1, 2), session="s1"), 1) == 99


def test_prompts_go_where_they_are_known() -> None:
    router = PrefixAware(PrefixMemory())
    one = request(prompt_tokens=1000, hashes=tuple(range(60)))
    first = router.route(one, [snapshot(0, queued=10), snapshot(1)], 0.0)
    assert (first.replica_id, first.terms["cached_tokens"]) == (1, 0)
    again = router.route(one, [snapshot(0), snapshot(1, queued=1500)], 0.0)
    assert (again.replica_id, again.terms["cached_tokens"]) == (1, 960)


def test_a_home_that_is_far_more_loaded_is_passed_over() -> None:
    router = PrefixAware(PrefixMemory(), imbalance=1.5, slack_tokens=2000.0)
    one = request(prompt_tokens=1000, hashes=tuple(range(60)))
    router.route(one, [snapshot(0)], 0.0)
    near, far = (snapshot(0, queued=tokens) for tokens in (2000, 2001))
    assert router.route(one, [near, snapshot(1)], 0.0).replica_id == 0
    assert router.route(one, [far, snapshot(1)], 0.0).replica_id == 1


def test_unknown_prompts_go_to_the_least_loaded() -> None:
    router = PrefixAware(PrefixMemory())
    loads = [snapshot(2, running=1), snapshot(1), snapshot(0, queued=1), snapshot(3)]
    assert router.route(request(), loads, 0.0).replica_id == 1


@given(st.data())
def test_routing_is_by_its_definition(data: st.DataObject) -> None:
    """The fast form against the words: of the replicas that are not far more loaded, the one with
    most of the prompt cached, of equals the least loaded, then the first."""
    router, memory = PrefixAware(PrefixMemory(), 1.5, 100.0), PrefixMemory()
    for _ in range(data.draw(st.integers(1, 12))):
        replicas = [snapshot(number, queued=data.draw(st.integers(0, 4)) * 60,
                             waiting=data.draw(st.integers(0, 2)))
                    for number in data.draw(st.permutations(range(4)))]
        asked = request(
            prompt_tokens=64, session=data.draw(st.sampled_from(["", "a", "b"])),
            hashes=data.draw(st.sampled_from([(), (1, 2, 3), (1, 2, 9), (1, 8), (5, 6)])))
        loads = {one.replica_id: (one.queued_prompt_tokens + 64, one.num_waiting + 1)
                 for one in replicas}
        least = min(loads.values())[0]
        near = [one for one in loads if loads[one][0] <= max(1.5 * least, least + 100)]
        expected = max(near, key=lambda one: (
            memory.cached_tokens(asked, one), -loads[one][0], -loads[one][1], -one))
        route = router.route(asked, replicas, 0.0)
        assert route.replica_id == expected
        assert route.terms == {"cached_tokens": memory.cached_tokens(asked, expected),
                               "load": loads[expected][0]}
        memory.sent(asked, expected)

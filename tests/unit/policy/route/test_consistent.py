"""Routing by consistent hashing."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.route.consistent import ConsistentHash
from support.scaled_examples import unit_examples
from support.small_routing import request, snapshot

numbers = st.lists(st.integers(0, 1000), min_size=1, max_size=12, unique=True)
IDLE = [snapshot(number) for number in range(8)]


def home(session, replicas, **settings):
    return ConsistentHash(**settings).route(request(session=session), replicas, 0.0).replica_id


@unit_examples(200)
@given(numbers, st.text(min_size=1, max_size=20), st.randoms())
def test_processes_that_share_nothing_agree_in_whatever_order_they_see_replicas(
        numbers, session, rng):
    replicas = [snapshot(number) for number in numbers]
    before = home(session, replicas)
    rng.shuffle(replicas)
    assert home(session, replicas) == before


@unit_examples(200)
@given(numbers.filter(lambda found: len(found) > 1), st.text(min_size=1, max_size=20),
       st.integers(0, 20))
def test_a_replica_that_leaves_moves_no_session_of_the_others(numbers, session, place):
    replicas = [snapshot(number) for number in numbers]
    gone = replicas.pop(place % len(replicas))
    before = home(session, [*replicas, gone])
    assert before in (home(session, replicas), gone.replica_id)


def test_sessions_are_spread_and_stay():
    found = {f"s{number}": home(f"s{number}", IDLE) for number in range(800)}
    assert min(Counter(found.values()).values()) > 60
    assert found == {session: home(session, IDLE) for session in found}


def test_tenants_sessions_are_apart_and_prompts_without_one_follow_their_first_block():
    router = ConsistentHash()
    homes = {router.route(request(session="talk", tenant=f"t{number}"), IDLE, 0.0).replica_id
             for number in range(50)}
    assert len(homes) > 4
    ones = {router.route(request(hashes=(7, number), prompt_tokens=64), IDLE, 0.0).replica_id
            for number in range(9)}
    assert len(ones) == 1


@unit_examples(200)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.5, 1.0, 3.0])),
                min_size=1, max_size=9), st.text(min_size=1, max_size=9), st.floats(1.01, 5.0))
def test_no_replica_gets_far_more_than_its_share(drawn, session, factor):
    replicas = [snapshot(number).replace(num_waiting=waiting, num_running=running, speed=speed)
                for number, (waiting, running, speed) in enumerate(drawn)]
    one = replicas[home(session, replicas, load_factor=factor)]
    share = (1 + sum(waiting + running for waiting, running, _ in drawn)) * one.speed / sum(
        speed for _, _, speed in drawn)
    assert one.num_waiting + one.num_running < factor * share + 1.0


def test_a_request_without_session_and_known_prompt_goes_where_least_is_to_do():
    busy = [one.replace(num_running=5, queued_prompt_tokens=9000) for one in IDLE]
    busy[3] = IDLE[3]
    assert ConsistentHash().route(request(), busy, 0.0).replica_id == 3

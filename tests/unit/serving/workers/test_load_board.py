"""Worker processes of one picker count each other's requests, and no longer than they live."""

from pathlib import Path

import pytest

from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.state import EngineFacts, EngineState, InFlight
from penstock.serving.workers.load_board import STALE_S, LoadBoard, Peers, place_of

URL = "http://10.0.0.1:8000"


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        return self.now_ns


def engine(url: str = URL, number: int = 0) -> EngineState:
    found = EngineState(EngineFacts(number, url, "m", None, 100_000, 1.0))
    found.observe(EngineLoad(num_running=0, num_waiting=0), 0.0)
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(tmp_path: Path, clock: Clock) -> LoadBoard:
    return LoadBoard(tmp_path / "load", 2, clock)


def test_a_worker_sees_the_requests_of_the_other(tmp_path: Path, board: LoadBoard,
                                                 clock: Clock) -> None:
    mine, theirs = engine(), engine(number=7)  # the numbers of pods may differ
    # The other worker maps the same file itself.
    other = Peers(LoadBoard(tmp_path / "load", 2, clock), 1, [theirs])
    own = Peers(board, 0, [mine])
    theirs.begin(1, InFlight(400, 50.0))
    theirs.begin(2, InFlight(100, 60.0))
    theirs.ledger.advance(theirs.in_flight[2], 10)
    other.exchange()
    own.exchange()
    seen = mine.snapshot(1.0)
    assert (seen.num_waiting, seen.num_running, seen.queued_prompt_tokens) == (1, 1, 400)
    assert seen.kv_used_tokens == 110
    assert seen.pending_output_tokens == 100.0
    mine.begin(1, InFlight(30))
    assert mine.snapshot(1.0).queued_prompt_tokens == 430
    for number in (1, 2):
        theirs.end(number)
    other.exchange()
    own.exchange()
    assert mine.snapshot(1.0).queued_prompt_tokens == 30


def test_the_own_load_counts_once(board: LoadBoard) -> None:
    mine = engine()
    mine.begin(1, InFlight(400))
    peers = Peers(board, 0, [mine])
    peers.exchange()
    peers.exchange()
    assert mine.snapshot(1.0).queued_prompt_tokens == 400


@pytest.mark.parametrize("how", ["cleared", "stale"])
def test_the_share_of_a_dead_worker_is_taken_out(board: LoadBoard, clock: Clock,
                                                 how: str) -> None:
    mine = engine()
    own = Peers(board, 0, [mine])
    board.tell(1, {place_of(mine): [1, 0, 400, 0, 50.0]})
    own.exchange()
    assert mine.snapshot(1.0).num_waiting == 1
    if how == "cleared":
        board.clear(1)
    else:
        clock.now_ns += int(STALE_S * 1e9) + 1
    own.exchange()
    assert mine.snapshot(1.0).num_waiting == 0


def test_a_slot_that_is_half_written_is_passed_over(tmp_path: Path, board: LoadBoard) -> None:
    mine = engine()
    own = Peers(board, 0, [mine])
    board.tell(1, {place_of(mine): [1, 0, 400, 0, 50.0]})
    own.exchange()
    content = bytearray((tmp_path / "load").read_bytes())
    at = content.rindex(b"400")
    content[at:at + 3] = b"999"
    with (tmp_path / "load").open("r+b") as file:  # the mapping shows it at once
        file.write(content)
    assert board.read(1) is None
    own.exchange()
    assert mine.snapshot(1.0).queued_prompt_tokens == 400  # as last told


def test_what_exceeds_a_slot_is_left_out(board: LoadBoard) -> None:
    board.tell(1, {f"{URL}/{number}": [1, 0, 0, 0, 0.0] for number in range(50_000)})
    assert board.read(1) == {}
    board.tell(1, {URL: [1, 0, 0, 0, 0.0]})
    assert board.read(1) == {URL: [1, 0, 0, 0, 0.0]}

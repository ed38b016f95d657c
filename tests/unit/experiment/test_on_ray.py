"""Pieces of work as Ray's tasks, with a double in Ray's place."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.experiment.on_ray import _LONGEST_S, _TASK_S, OnRay, computed, pack
from penstock.experiment.shipped import shipped_modules
from penstock.experiment.workers import AHEAD
from support.ray_double import Ray
from support.work_by_clock import CLOCK, work

square = (2).__rpow__


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ray]:
    """Puts a double in Ray's place."""
    def of(**settings: object) -> Ray:
        double = Ray(**settings)
        monkeypatch.setitem(sys.modules, "ray", double)
        monkeypatch.setitem(sys.modules, "ray.exceptions", double.exceptions)
        return double

    return of


def test_results_are_in_order_and_few_tasks_ahead(ray: Callable[..., Ray]) -> None:
    double = ray()
    assert list(OnRay().results(square, iter(range(100)))) == [n * n for n in range(100)]
    assert 2 * AHEAD < len(double.tasks) < 20, "short pieces share tasks"
    assert double.most_in_flight == 2 * AHEAD
    assert double.options is None, "disconnected"
    bounded = ray()
    assert list(OnRay(num=3).results(square, range(9))) == [n * n for n in range(9)]
    assert bounded.most_in_flight == 3


def test_tasks_have_pieces_for_a_moment(ray: Callable[..., Ray],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where pieces take a thousand times as long as those before."""
    monkeypatch.setattr("penstock.experiment.on_ray.time.perf_counter", lambda: CLOCK.now_s)
    double = ray(cores=1)
    pieces = [0.01] * 200 + [10.0] * 30 + [0.01] * 200
    assert list(OnRay().results(work, pieces)) == pieces
    done = [task.result for task in double.tasks]
    assert max(one.seconds for one in done) < 10.0 + _LONGEST_S
    assert max(len(one.results) for one in done) == _TASK_S / 0.01
    assert len(double.tasks) < 100
    assert sum(len(one.results) for one in done) == len(pieces), "each piece once"


def test_an_error_in_making_a_piece_comes_after_the_results_before_it(
        ray: Callable[..., Ray]) -> None:
    def pieces() -> Iterator[int]:
        yield from range(30)
        raise InputError("no further piece")

    ray()
    found = OnRay().results(square, pieces())
    assert [next(found) for _ in range(30)] == [n * n for n in range(30)]
    with pytest.raises(InputError, match="no further piece"):
        next(found)


def test_a_lost_piece_is_computed_once_more(ray: Callable[..., Ray]) -> None:
    double = ray(losses={2: 3, 5: 1})
    assert list(OnRay().results(square, range(8))) == [n * n for n in range(8)]
    assert [task.runs for task in double.tasks] == [1] * 8
    ray(losses={2: 4})
    with pytest.raises(InputError, match=r"^--on ray: The worker died. \(RayError\)$"):
        list(OnRay().results(square, range(8)))


def test_the_rest_is_cancelled_when_the_caller_stops(ray: Callable[..., Ray]) -> None:
    double = ray(cores=1)
    found = OnRay().results(square, range(50))
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    assert double.cancelled == double.tasks[1:]


def test_errors_of_pieces_are_those_of_the_work(ray: Callable[..., Ray]) -> None:
    ray()
    found = OnRay().results(partial(divmod, 1), [1, 0, 1])
    assert next(found) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_a_large_array_is_sent_once(ray: Callable[..., Ray]) -> None:
    double = ray()
    large, small = np.arange(100_000), np.arange(10)
    pieces = [(large, small, number) for number in range(30)]
    assert list(OnRay().results(len, pieces)) == [3] * 30
    assert [value is large for value in double.put_values] == [True]
    packed, arrays = pack((list, [(large, large), (small,)]))
    assert len(packed) < 1000
    found = computed(packed, *arrays)
    assert found.error is None
    (first, second), (third,) = found.results
    for one, other in ((first, large), (second, large), (third, small)):
        np.testing.assert_array_equal(one, other)


def test_what_ray_prints_is_no_result(ray: Callable[..., Ray],
                                     capsys: pytest.CaptureFixture[str]) -> None:
    double = ray()
    for _ in OnRay().results(square, range(3)):
        double.lose_a_worker()
    print("result")
    assert capsys.readouterr() == ("result\n", "(raylet) A worker died.\n" * 3)


def test_modules_go_to_a_cluster_elsewhere_only(ray: Callable[..., Ray],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.experiment.on_ray._check_answers", lambda _: None)
    for address, shipped in ((None, False), ("ray://there:10001", True), ("there:6379", True)):
        double = ray()
        found = OnRay(address).results(square, range(3))
        next(found)
        assert ("runtime_env" in double.options) == shipped
        found.close()  # type: ignore[attr-defined]
    assert shipped_modules()[0].endswith("penstock")


def test_what_hinders_a_connection_is_told(ray: Callable[..., Ray],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    ray()
    with pytest.raises(InputError, match=r"--on ray:127.0.0.1:1: no Ray cluster answers there"):
        list(OnRay("127.0.0.1:1").results(square, range(3)))
    ray().refusal = ConnectionError("version mismatch\nlong story")
    with pytest.raises(InputError, match=r"--on ray: version mismatch \(ConnectionError\)$"):
        list(OnRay().results(square, range(3)))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install '.\[ray\]'"):
        list(OnRay().results(square, range(3)))


@pytest.mark.parametrize(("says", "told"), [
    (b"", "timed out"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "another program listens"),
    (b"\0\0", "timed out"), (None, "another program listens")])
def test_another_program_at_the_address_is_told(ray: Callable[..., Ray], says: bytes | None,
                                                told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is silent, too; Ray would wait for minutes."""
    ray()
    monkeypatch.setattr("penstock.experiment.on_ray._ANSWER_S", 0.2)
    with listening(says) as port:
        for place in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(InputError, match=rf"no Ray cluster answers there \({told}\)$"):
                list(OnRay(place).results(square, range(3)))


def test_a_server_of_http2_is_taken_for_a_cluster(ray: Callable[..., Ray]) -> None:
    ray()
    with listening(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 1, 0])) as port:
        assert list(OnRay(f"127.0.0.1:{port}").results(square, range(3))) == [0, 1, 4]


@contextmanager
def listening(says: bytes | None) -> Iterator[int]:
    """The port of a server that says this to each client; None hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = Event()

        def serve() -> None:
            kept = []
            while not ended.is_set():
                there, _ = server.accept()
                if says is None:
                    there.recv(1 << 16)
                    there.close()
                else:
                    kept.append(there)
                    there.sendall(says)

            for there in kept:
                there.close()

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            socket.create_connection(server.getsockname()).close()
            thread.join()

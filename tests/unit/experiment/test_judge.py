import asyncio
from typing import Any

import pytest

from penstock.engines.client.answer import FAILED, Answer, TokenEvent
from penstock.experiment.collect.judge import Judge, read_score


@pytest.mark.parametrize(("reply", "score"), [
    ("Score: 7", 0.7), ("score: 10", 1.0), ("**Score:** 8/10", 0.8), ("Score: 4/5", 0.8),
    ("7", 0.7), (" 6.5 ", 0.65), ("Score: 80/100", 0.8), ("Score: 0", 0.0),
    ("Score: 3\nOn reflection, score: 5", 0.5), ("<think>score: 1</think>Score: 9", 0.9),
    ("I like it", None), ("Score: eleven", None), ("Score: 11", None), ("Score: 5/0", None),
    ("It has 3 faults", None), ("", None),
])
def test_scores_are_read(reply: str, score: float | None) -> None:
    assert read_score(reply) == (None if score is None else pytest.approx(score))


def judge_that_says(*replies: str) -> tuple[Judge, list[dict[str, Any]]]:
    asked: list[dict[str, Any]] = []

    async def ask(body: dict[str, Any], path: str) -> Answer:
        asked.append(body)
        reply = replies[min(len(asked), len(replies)) - 1]
        if reply == "fails":
            return Answer(0.0, 1.0, FAILED, "status 500: no")
        return Answer(0.0, 1.0, events=[TokenEvent(0.5, reply)])

    return Judge(ask, "wise"), asked


def test_a_judge_is_asked_again_until_there_is_a_score() -> None:
    judge, asked = judge_that_says("hm", "fails", "Score: 6")
    verdict = asyncio.run(judge.judge("the task", "the answer", "the truth"))
    assert verdict.quality == pytest.approx(0.6)
    assert len(asked) == 3
    # The same question at temperature 0 would get the same reply.
    assert asked[0]["temperature"] == 0.0 < asked[1]["temperature"]
    text = asked[0]["messages"][1]["content"]
    assert all(part in text for part in ("the task", "the answer", "the truth"))


def test_a_judge_that_never_says_is_reported() -> None:
    judge, asked = judge_that_says("no idea")
    verdict = asyncio.run(judge.judge("task", "answer", None))
    assert verdict.quality is None
    assert "3 attempts; the last: no score in the reply 'no idea'" in verdict.reason
    assert len(asked) == 3
    assert "<reference>" not in asked[0]["messages"][1]["content"]
    judge, _ = judge_that_says("fails")
    assert "failed: status 500" in asyncio.run(judge.judge("t", "a", None)).reason

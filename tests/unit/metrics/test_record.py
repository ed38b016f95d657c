"""Records as documents and back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import pytest

from penstock.core.errors import InputError
from penstock.metrics.record import Form, Former, document, read_record


@dataclass(frozen=True, kw_only=True)
class Part:
    number: int
    share: Annotated[float | None, Former("portion")] = None


@dataclass(frozen=True, kw_only=True)
class Beside:
    origin: str | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    beside: Annotated[Beside | None, Form.FLAT] = None
    parts: tuple[Part, ...]
    by_name: Mapping[str, Part]
    note: Annotated[str | None, Form.OPTIONAL] = None


WHOLE = Whole(beside=Beside(origin="a"), parts=(Part(number=1, share=0.5),),
              by_name={"x": Part(number=2)}, note="n")
DOCUMENT = {"origin": "a", "seed": None, "parts": [{"number": 1, "share": 0.5, "portion": 0.5}],
            "by_name": {"x": {"number": 2, "share": None, "portion": None}}, "note": "n"}


def test_a_document_has_a_key_per_field_in_order_and_reads_back() -> None:
    assert document(WHOLE) == DOCUMENT
    assert list(document(WHOLE)) == list(DOCUMENT)
    assert read_record(Whole, DOCUMENT) == WHOLE


def test_keys_that_are_absent_or_of_earlier_versions() -> None:
    bare = {"parts": [{"number": 1, "portion": 0.25}], "by_name": {}}
    found = read_record(Whole, {**bare, "unknown": 3})
    assert found == Whole(parts=(Part(number=1, share=0.25),), by_name={})
    assert set(document(found)) == {"parts", "by_name"}


@pytest.mark.parametrize(("changed", "words"), [
    ({"parts": [{}]}, "parts[0].number: missing"),
    ({"parts": 3}, "parts: found 3; expected a list"),
    ({"parts": [3]}, "parts[0]: found 3; expected keys and values"),
    ({"parts": [{"number": "x"}]}, "parts[0].number: found x; expected a whole number"),
    ({"by_name": [1]}, "by_name: found [1]; expected keys and values"),
    ({"by_name": {"x": {"number": 1, "share": []}}},
     "by_name.x.share: found []; expected a number"),
    ({"note": 3}, "note: found 3; expected text")])
def test_a_document_of_another_form_is_refused_with_its_place(changed, words) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(words)}"):
        read_record(Whole, {**DOCUMENT, **changed})

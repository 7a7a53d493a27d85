"""What a malformed request costs: no more errors than are told, however many it has."""

import pytest

pytest.importorskip("pydantic", reason="the extra `service` is not installed")

from pydantic import ValidationError

from export.service.messages import MOST_ERRORS, BatchRequest, RecommendRequest


def errors(kind, body):
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(body)
    return refused.value.errors()


def test_of_many_histories_that_are_none_the_first_is_an_error():
    (error,) = errors(BatchRequest, {"histories": [["a"], 1, *[2] * 1_000]})
    assert error["loc"] == ("histories", 1)


def test_of_many_unknown_fields_the_first_are_errors():
    body = {f"field {number}": number for number in range(1_000)} | {"history": ["a"]}
    found = errors(RecommendRequest, body)
    assert [one["loc"] for one in found] == [(f"field {number}",) for number in range(MOST_ERRORS)]


def test_unknown_fields_do_not_hide_the_others():
    found = errors(RecommendRequest, {"x": 1, "y": 1, "z": 1, "w": 1, "k": 0, "history": []})
    assert ("k",) in [one["loc"] for one in found]

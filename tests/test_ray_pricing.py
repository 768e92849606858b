"""What is said of mode `ray` without any Ray."""

import pytest

from vecselect import RequestError, recommend


def test_nothing_is_said_of_it_unless_it_is_allowed():
    plan = recommend("CartPole-v1", 2, effort="rule", use_store=False)
    assert "ray" not in [candidate.mode for candidate in plan.candidates]
    with pytest.raises(RequestError, match="There is no mode to allow 'rey'"):
        recommend("CartPole-v1", 2, allow=("rey",))

"""The table of `vecselect plans list`: a line for a plan, whatever the width of the terminal."""

import datetime
import io

import pytest

from vecselect.cli.plan_table import age, cut, learner_text, table, write_table

NOW = datetime.datetime(2025, 3, 4, 12, 0, tzinfo=datetime.timezone.utc)


def row(**changes):
    values = {
        "key": "0123456789abcdef",
        "env": "HalfCheetah-v5",
        "num_envs": 16,
        "mode": "pool:1:sleep",
        "effort": "measure",
        "decided_by": "estimate",
        "created": "2025-03-04T09:00:00+00:00",
        "here": True,
    }
    return {**values, **changes}


ROWS = [row(key=f"{number}123456789abcdef") for number in range(3)]
LEARNERS = [
    "none",
    "my_package.training.PolicyOfSomeLength 0123456789abcdef, torch with 2 threads",
    "2^-10 s",
]


def test_what_differs_has_a_column_and_what_does_not_has_none():
    assert table(ROWS, ["none"] * 3, NOW)[0] == [
        "key",
        "environment",
        "envs",
        "mode",
        "by",
        "made",
    ]
    lines = table([*ROWS[:2], row(here=False, effort="exhaustive")], LEARNERS, NOW)
    assert lines[0][6:] == ["effort", "learner", "machine"]
    assert lines[3][6:] == ["exhaustive", "~977 us", "another"]
    assert table([row(here=False)], ["none"], NOW)[0][-1] == "machine"


def test_keys_are_as_short_as_tells_them_apart():
    keys = ["0123456789abcdef", "0123456780abcdef"]
    assert [line[0] for line in table(ROWS, LEARNERS, NOW)[1:]] == [one["key"][:8] for one in ROWS]
    lines = table([row(key=key) for key in keys], LEARNERS[:2], NOW)
    assert [line[0] for line in lines[1:]] == ["0123456789", "0123456780"]


def test_the_learner_is_cut_before_the_environment_and_the_key_never():
    lines = cut(table(ROWS, LEARNERS, NOW), 80)
    assert max(sum(map(len, cells)) + 2 * (len(cells) - 1) for cells in lines) <= 80
    assert lines[2][:2] == ["11234567", "HalfCheetah-v5"]
    assert lines[2][-1].endswith("...")
    long = [row(env="a_package.environments:TheOneWithTheLongestName-v12")]
    (_, cells) = cut(table(long, ["none"], NOW), 80)
    assert cells[0] == "01234567"
    assert cells[1].endswith("...")


def test_in_a_pipe_nothing_is_cut():
    file = io.StringIO()
    write_table([row(env="A" * 200 + "-v0")], ["none"], file)
    head, line = file.getvalue().splitlines()
    assert head.startswith("key       environment")
    assert "A" * 200 + "-v0    16  pool:1:sleep  estimate" in line


@pytest.mark.parametrize(
    ("created", "text"),
    [
        ("2025-03-04T11:59:30+00:00", "just now"),
        ("2025-03-04T11:40:00+00:00", "20 min ago"),
        ("2025-03-04T09:00:00+00:00", "3 h ago"),
        ("2025-03-03T09:00:00+00:00", "27 h ago"),
        ("2025-03-01T09:00:00+00:00", "2025-03-01"),
        ("2025-03-05T09:00:00+00:00", "2025-03-05"),
        ("2025-03-04T09:00:00", "2025-03-04"),
        ("some day", "some day"),
    ],
)
def test_an_age_is_told_in_hours_and_a_long_one_by_its_date(created, text):
    assert age(created, NOW) == text


@pytest.mark.parametrize(
    ("learner", "text"),
    [
        ("none", "none"),
        ("2^-10 s", "~977 us"),
        ("a.b.policy 0123456789abcdef", "policy 0123"),
        ("a.<locals>.<lambda> 0123456789abcdef, torch with 2 threads", "<lambda> 0123, torch 2"),
        ("something else", "something else"),
    ],
)
def test_a_learner_is_told_in_a_few_words(learner, text):
    assert learner_text(learner) == text

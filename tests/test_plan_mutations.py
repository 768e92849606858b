"""Plans that somebody has written by hand, or tampered with: refused or used, never a traceback."""

import copy
import json
import random

import pytest

from tests import plans
from tests.zoo import EchoEnv
from vecselect import Plan, PlanError, auto_make_vec, recommend
from vecselect.cli import main
from vecselect.report.markdown import markdown

VALUES = (
    *(None, True, 0, -1, 1, 7.5, -2.5, 1e308, 1e-308, 10**18, 10**400),
    *(float("nan"), float("inf"), "", "zzz", "pool:9999", "\udc80", [], [1], {}, {"a": 1}),
)
LOADED, SHOWN = 1000, 15


def places(value, path=()):
    """Where something stands in a document; of long lists the first two places."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:2]) if isinstance(value, list) else items
    for key, part in items:
        yield from places(part, (*path, key))


def mutated(document, path, value):
    document = copy.deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def test_a_plan_with_any_value_in_any_place_is_refused_or_can_be_shown():
    documents = [json.loads(p.to_json()) for p in plans.ALL.values()]
    cases = [
        (document, path, value)
        for document in documents
        for path in places(document)
        for value in VALUES
    ]
    taken = []
    for case in random.Random(1).sample(cases, LOADED):
        try:
            taken.append(Plan.from_json(json.dumps(mutated(*case))))
        except PlanError as error:
            assert len(str(error)) < 400
    assert SHOWN < len(taken) < LOADED / 2
    for plan in taken[:SHOWN]:
        assert repr(plan) and str(plan.report) and markdown(plan)
        assert Plan.from_json(plan.to_json()) == plan


@pytest.fixture
def stored(cache):
    """The file of a plan that is recalled where nobody changes it."""
    plan = recommend(EchoEnv, 2)
    assert recommend(EchoEnv, 2).recalled
    (entry,) = cache.entries()
    assert entry.key == plan.key
    return entry.path


IMPOSSIBLE = {
    "no mode": {"mode": "zzz"},
    "no effort": {"effort": "bogus"},
    "more workers than work": {"mode": "pool:9999"},
    "what was not allowed": {"mode": "ray:2"},
    "a huge number": {"planning_s": 10**400},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_stored_plan_that_cannot_be_is_made_anew(name, stored):
    document = json.loads(stored.read_text())
    document["plan"].update(IMPOSSIBLE[name])
    stored.write_text(json.dumps(document))
    with auto_make_vec(EchoEnv, 2) as envs:
        envs.reset(seed=1)
        assert not envs.plan.recalled
        assert envs.num_envs == envs.plan.num_envs == 2
        assert "ray" not in envs.mode
    assert recommend(EchoEnv, 2).recalled


@pytest.mark.parametrize("command", [["plans", "import", "/dev/zero"], ["explain", "endless.json"]])
def test_a_file_without_an_end_is_not_read_to_it(command, monkeypatch, tmp_path, capsys):
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert "larger than" in capsys.readouterr().err

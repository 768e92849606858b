"""The guide to adding a mode works as it is written: its code is taken from it and run."""

import dataclasses
import re
from pathlib import Path

import pytest

from tests.records import MS, evidence
from tests.test_contract import variant
from vecselect import auto_make_vec, available_modes, recommend
from vecselect.modes import KINDS, Kind, Mode
from vecselect.planning import planner
from vecselect.selection import model
from vecselect.selection.candidates import candidate_modes
from vecselect.selection.evidence import LearnerCost
from vecselect.selection.overlap import overlap
from vecselect.testing.contract import VectorEnvContract

GUIDE = Path(__file__).parents[1] / "examples" / "README.md"
SECTION = GUIDE.read_text(encoding="utf-8").partition("## How to add a mode")[2]
BACKEND, LINE, COST, CONTRACT = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[:4]


@pytest.fixture(autouse=True)
def timed(monkeypatch, tmp_path):
    """The mode of the guide, from a package of somebody else's."""
    name = f"timed_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(BACKEND)
    monkeypatch.syspath_prepend(tmp_path)
    names = vars(model).copy()
    exec(COST, names)
    monkeypatch.setattr(model, "timed_parts", names["timed_parts"], raising=False)
    line = LINE.replace("vecselect.backends.timed", name)
    for kind, about in eval(f"{{{line}}}", {"Kind": Kind}).items():
        monkeypatch.setitem(KINDS, kind, about)
    yield
    model.load.cache_clear()


@variant
class TestTimed(VectorEnvContract):
    mode = "timed"


def test_the_guide_derives_the_contract():
    names = {}
    exec(CONTRACT, names)
    assert issubclass(names["TestTimed"], VectorEnvContract)
    assert names["TestTimed"].mode == TestTimed.mode


def test_the_mode_is_known_everywhere_and_does_its_work():
    assert available_modes()["timed"] is None
    with auto_make_vec("CartPole-v1", 2, mode="timed") as envs:
        assert envs.mode == envs.plan.mode == "timed"
        envs.reset(seed=1)
        envs.step([0, 1])
        assert (envs.unwrapped.seconds > 0).all()


def test_auto_prices_the_mode_and_takes_it_where_it_is_the_fastest(monkeypatch):
    options = {"use_store": False, "learner": 0}
    predicted = {
        one.mode: one.predicted for one in recommend("CartPole-v1", 2, **options).candidates
    }
    assert predicted["timed"].mid > predicted["sync"].mid

    def free(mode, evidence, learner):
        return model.Parts(1e-9, 0.0, 0.0, 0.0)

    monkeypatch.setattr(model, "timed_parts", free)
    model.load.cache_clear()
    with auto_make_vec("CartPole-v1", 2, **options) as envs:
        assert envs.mode == "timed"


@pytest.mark.parametrize("other", [{"users_environments": False}, {"on_request": True}])
def test_what_is_other_or_needs_asking_for_is_not_chosen_unasked(monkeypatch, other):
    monkeypatch.setitem(KINDS, "timed", dataclasses.replace(KINDS["timed"], **other))
    monkeypatch.setattr(model, "timed_parts", lambda *_: model.Parts(1e-9, 0.0, 0.0, 0.0))
    model.load.cache_clear()
    asked = {"use_store": False, "learner": 0}
    plan = recommend("CartPole-v1", 2, **asked)
    assert "timed" not in {one.mode for one in plan.candidates}
    assert recommend("CartPole-v1", 2, allow=("timed",), **asked).candidate("timed")


def test_what_its_workers_cost_and_can_do_is_a_field(monkeypatch):
    workers = {"workers": "workers", "one_by_one": True, "start_s": 2.0, "further_start_s": 0.5}
    monkeypatch.setitem(KINDS, "timed", dataclasses.replace(KINDS["timed"], **workers))
    assert model.start_up_s(Mode("timed", 3), 8, 2.0) == 3.0
    monkeypatch.setattr(model, "timed_parts", model.pool_parts, raising=False)
    model.load.cache_clear()
    known = evidence(1 * MS, 8, kinds=("sync", "timed"))
    assert overlap(known, Mode("timed", 1), 8 * MS, LearnerCost("callable", 1 * MS)) is not None
    modes = candidate_modes(known)
    assert list(planner._break_evens(known, modes)) == ["timed"]


def test_without_a_cost_it_is_only_pinned(monkeypatch):
    monkeypatch.setitem(KINDS, "timed", Kind(KINDS["timed"].backend))
    assert recommend("CartPole-v1", 2, use_store=False).mode != "timed"

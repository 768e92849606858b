"""Plans travel from one store to another, the sound ones and no others."""

import dataclasses
import json

import pytest

from tests.stored import KEY, OBSERVED, names, saved
from vecselect import PlanError
from vecselect.store.key import digest
from vecselect.store.plans import PlanStore


def test_plans_travel_to_another_store(store, plan, tmp_path):
    keys = {saved(store, plan, 1), saved(store, plan, 2, OBSERVED)}
    other = PlanStore(tmp_path / "other")
    stored, refused = other.import_json(store.export_json())
    assert (set(stored), refused) == (keys, [])
    for key in keys:
        here, there = store.load(key), other.load(key)
        assert dataclasses.replace(there, path=here.path) == here
    assert set(other.import_json(store.export_json())[0]) == keys


def test_chosen_plans_are_exported_alone(store, plan):
    first, _ = saved(store, plan, 1), saved(store, plan, 2)
    document = json.loads(store.export_json([first[:5]]))
    assert [entry["key"] for entry in document["plans"]] == [first]
    with pytest.raises(PlanError, match="No stored plan"):
        store.export_json(["nothing"])


def test_an_import_takes_the_sound_plans_and_says_what_is_wrong_with_the_others(
    store, plan, tmp_path
):
    for number in range(5):
        saved(store, plan, number)
    document = json.loads(store.export_json())
    sound, flipped, misplaced, outside, _ = document["plans"]
    flipped["fields"]["num_envs"] = 77
    for entry, key in ((misplaced, "0" * 16), (outside, "../../outside")):
        entry["key"] = key
        entry.pop("checksum")
        entry["checksum"] = digest(entry)
    document["plans"][4] = "nothing"
    other = PlanStore(tmp_path / "other")
    stored, refused = other.import_json(json.dumps(document))
    assert stored == [sound["key"]]
    whys = dict(refused)
    assert "checksum" in whys[flipped["key"]]
    assert "its key is not that of what it is for" in whys["0" * 16]
    assert "what it is for" in whys["../../outside"]
    assert "not written by vecselect" in whys["plan 5"]
    assert names(tmp_path / "other" / "plans") == [f"{sound['key']}.json"]
    assert not list(tmp_path.rglob("outside*"))


def test_an_import_never_replaces_a_plan_by_one_of_less_effort(store, plan, tmp_path):
    other = PlanStore(tmp_path / "other")
    for effort, here, imported in (
        ("rule", "measure", False),
        ("measure", "exhaustive", False),
        ("measure", "measure", True),
        ("exhaustive", "estimate", True),
    ):
        saved(store, plan, effort=effort, reason="Imported.")
        saved(other, plan, effort=here, reason="Here.")
        stored, refused = other.import_json(store.export_json())
        assert stored == ([KEY] if imported else [])
        assert [key for key, why in refused if here in why] == ([] if imported else [KEY])
        assert other.load(KEY).plan.reason == ("Imported." if imported else "Here.")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", "garbage", '{"format": "vecselect-plans", "schema": 2, "plans": []}'],
)
def test_what_is_no_export_is_refused_as_a_whole(store, text):
    with pytest.raises(PlanError, match="export"):
        store.import_json(text)


def test_an_import_that_cannot_be_written_says_so(store, plan, tmp_path):
    saved(store, plan)
    (tmp_path / "file").write_text("")
    stored, ((key, why),) = PlanStore(tmp_path / "file").import_json(store.export_json())
    assert (stored, key) == ([], KEY)
    assert "could not be stored" in why

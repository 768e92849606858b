"""Plans on disk: what is stored comes back, and a file that is damaged never stops anyone."""

import dataclasses
import errno
import json
import os
import pathlib
import subprocess
import sys
import time
import warnings

import pytest

from vecselect import PlanError, VecselectError
from vecselect.errors import VecselectWarning
from vecselect.store.key import digest, key_of
from vecselect.store.plans import Observed, PlanStore

OBSERVED = Observed(vector_steps=100, inside_s=1.5, outside_s=0.25, gap_s=2e-3)


@pytest.fixture
def cache(own_store):
    return own_store


@pytest.fixture
def store():
    return PlanStore()


def fields_of(number):
    return {"env": {"label": "CartPole-v1"}, "num_envs": number, "machine": {"cores": 2.0}}


KEY = key_of(fields_of(0))


def saved(store, plan, number=0, observed=None, **changes):
    fields = fields_of(number)
    plan = dataclasses.replace(plan, **changes)
    assert store.save(key_of(fields), plan, fields, observed) is None
    return key_of(fields)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_the_one_that_is_given_or_named_or_the_users(cache, tmp_path, monkeypatch):
    assert PlanStore(tmp_path).folder == tmp_path
    assert PlanStore().folder == cache
    monkeypatch.delenv("VECSELECT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert PlanStore().folder.name == "vecselect"
    if sys.platform == "linux":
        assert PlanStore().folder == tmp_path / "xdg" / "vecselect"


def test_making_a_store_and_looking_into_it_writes_nothing(store, cache):
    assert store.load(KEY) is None
    assert store.entries() == []
    assert store.forget(None) == []
    assert not cache.exists()


@pytest.mark.parametrize("observed", [None, OBSERVED])
def test_what_is_saved_is_loaded_unchanged(store, plan, observed, cache):
    assert saved(store, plan, observed=observed) == KEY
    entry = PlanStore().load(KEY)
    assert (entry.key, entry.plan, entry.fields) == (KEY, plan, fields_of(0))
    assert entry.observed == observed
    assert entry.path == cache / "plans" / f"{KEY}.json"
    assert names(cache / "plans") == [f"{KEY}.json"]


def test_the_file_is_one_readable_json_document(store, plan):
    document = json.loads(store.load(saved(store, plan)).path.read_text())
    assert list(document) == [
        "format", "schema", "key", "fields", "observed", "plan", "checksum",
    ]  # fmt: skip
    assert (document["format"], document["schema"]) == ("vecselect-plan", 1)


def test_fields_whose_keys_are_numbers_do_not_spoil_the_checksum(store, plan):
    assert store.save(KEY, plan, {"sizes": {10: "a", 9: "b"}}) is None
    assert store.load(KEY).fields == {"sizes": {"10": "a", "9": "b"}}


def test_saving_again_replaces_and_the_newest_comes_first(store, plan):
    saved(store, plan, 1, created="2025-01-01T00:00:00+00:00")
    saved(store, plan, 2, created="2025-03-01T00:00:00+00:00")
    saved(store, plan, 3, created="2025-02-01T00:00:00+00:00")
    saved(store, plan, 2, created="2025-03-01T00:00:00+00:00", reason="Another.")
    assert [entry.fields["num_envs"] for entry in store.entries()] == [2, 3, 1]
    assert store.entries()[0].plan.reason == "Another."


def edited(change):
    """A way to damage a file: edit its document, and seal it again."""

    def damage(path):
        document = json.loads(path.read_text())
        document.pop("checksum")
        change(document)
        path.write_text(json.dumps({**document, "checksum": digest(document)}))

    return damage


def flip_checksum(path):
    text = path.read_text()
    at = text.index('"checksum": "') + len('"checksum": "')
    path.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])


DAMAGES = {
    "garbage": (lambda path: path.write_bytes(b"\xff\x00garbage"), "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "null": (lambda path: path.write_text("null"), "not written by vecselect"),
    "a list": (lambda path: path.write_text("[]"), "not written by vecselect"),
    "deep": (lambda path: path.write_text("[" * 100_000 + "]" * 100_000), "damaged"),
    "truncated": (lambda path: path.write_text(path.read_text()[:-40]), "damaged"),
    "foreign": (lambda path: path.write_text('{"name": "x"}'), "not written by vecselect"),
    "newer": (edited(lambda document: document.update(schema=2)), "has schema 2"),
    "other key": (edited(lambda document: document.update(key="0" * 16)), "belongs to the key"),
    "checksum": (flip_checksum, "checksum"),
    "a changed value": (
        lambda path: path.write_text(path.read_text().replace('"num_envs": 2', '"num_envs": 3')),
        "checksum",
    ),
    "no fields": (edited(lambda document: document.update(fields=None)), "what it is for"),
    "observed": (edited(lambda document: document.update(observed={})), "what real use showed"),
    "no plan": (edited(lambda document: document.update(plan=None)), "not a plan"),
    "newer plan": (edited(lambda document: document["plan"].update(schema=99)), "schema 99"),
    "huge": (lambda path: os.truncate(path, (16 << 20) + 1), "larger than 16 MiB"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_cannot_be_used_is_one_warning_and_no_plan(store, plan, damage, reason):
    path = store.load(saved(store, plan)).path
    damage(path)
    with pytest.warns(VecselectWarning) as caught:
        assert store.load(KEY) is None
        assert PlanStore().load(KEY) is None
        assert store.entries() == []
    assert len(caught) == 1
    message = str(caught[0].message)
    assert str(path) in message
    assert reason in message
    assert message.endswith("is planned again.")
    with pytest.raises(PlanError, match=f"{KEY} cannot be used"):
        store.find(KEY)
    # The next plan takes the damaged one's place.
    saved(store, plan)
    assert store.load(KEY).plan == plan


NO_FILES = {
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
}


@pytest.mark.parametrize("change", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_planned_again_without_waiting(store, plan, change):
    path = store.load(saved(store, plan)).path
    change(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert store.load(KEY) is None
        assert PlanStore().load(KEY) is None
        assert store.entries() == []
    assert len(caught) == (0 if path.is_symlink() else 1)
    assert all("it is no regular file" in str(one.message) for one in caught)
    if path.is_dir():
        assert store.save(KEY, plan, fields_of(0)).endswith(".")
        assert store.load(KEY) is None
    else:
        saved(store, plan)
        assert store.load(KEY).plan == plan


def test_a_damaged_file_does_not_hide_the_others_and_can_be_forgotten(store, plan):
    good = saved(store, plan, 1)
    store.load(saved(store, plan)).path.write_text("garbage")
    with pytest.warns(VecselectWarning):
        assert [entry.key for entry in store.entries()] == [good]
    assert store.forget(KEY[:6]) == [KEY]
    assert [entry.key for entry in store.entries()] == [good]


def test_a_place_that_is_no_folder_is_no_error(cache, plan):
    cache.write_text("a file where the folder should be")
    store = PlanStore()
    assert store.load(KEY) is None
    assert store.entries() == []
    assert store.forget(None) == []
    why = store.save(KEY, plan, fields_of(0))
    assert str(cache) in why
    assert why.endswith(".")
    store.note_observed(KEY, OBSERVED)
    store.save_calibration(KEY, {"a": 1})
    assert store.load_calibration(KEY) is None


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root"
)
def test_a_folder_that_may_only_be_read_is_read(cache, plan):
    store = PlanStore()
    saved(store, plan)
    (cache / "plans").chmod(0o500)
    try:
        assert store.load(KEY).plan == plan
        assert "could not be stored" in store.save(KEY, plan, fields_of(0))
        store.note_observed(KEY, OBSERVED)
        assert store.load(KEY).observed is None
    finally:
        (cache / "plans").chmod(0o700)


def test_a_full_disk_is_a_sentence_and_leaves_the_old_plan(store, plan, cache, monkeypatch):
    saved(store, plan)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    why = store.save(KEY, dataclasses.replace(plan, reason="New."), fields_of(0))
    assert "No space left on device" in why
    assert names(cache / "plans") == [f"{KEY}.json"]
    assert store.load(KEY).plan == plan


@pytest.mark.parametrize("key", ["../../outside", "", "a/b", ".", "a" * 65, "a b"])
def test_a_key_cannot_lead_out_of_the_folder(store, plan, key, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert "is no key" in store.save(key, plan, {})
    assert store.load(key) is None
    store.save_calibration(key, {})
    assert store.load_calibration(key) is None
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_writer_left_is_removed_after_a_day(store, plan, cache):
    saved(store, plan)
    old, new = cache / "plans" / "a.1-2.tmp", cache / "plans" / "b.3-4.tmp"
    for file in (old, new):
        file.write_text("half")
    yesterday_s = time.time() - 25 * 3600
    os.utime(old, (yesterday_s, yesterday_s))
    saved(store, plan, 1)
    assert not old.exists()
    assert new.exists()
    assert len(store.entries()) == 2


def test_what_use_showed_is_added_to_the_entry(store, plan):
    saved(store, plan)
    store.note_observed(KEY, OBSERVED)
    entry = store.load(KEY)
    assert (entry.observed, entry.plan, entry.fields) == (OBSERVED, plan, fields_of(0))
    later = dataclasses.replace(OBSERVED, vector_steps=7)
    store.note_observed(KEY, later)
    assert store.load(KEY).observed == later


def test_what_use_showed_brings_no_plan_back(store, plan, cache):
    saved(store, plan)
    store.forget(KEY)
    store.note_observed(KEY, OBSERVED)
    store.note_observed("../x", OBSERVED)
    assert names(cache / "plans") == []


def test_what_use_showed_does_not_undo_a_plan_that_was_made_meanwhile(store, plan, monkeypatch):
    saved(store, plan)
    reading = pathlib.Path.open

    def slow(path, *arguments, **options):
        monkeypatch.setattr(pathlib.Path, "open", reading)
        file = path.open(*arguments, **options)
        saved(PlanStore(), plan, reason="Made meanwhile.")
        return file

    monkeypatch.setattr(pathlib.Path, "open", slow)
    store.note_observed(KEY, OBSERVED)
    entry = store.load(KEY)
    assert (entry.plan.reason, entry.observed) == ("Made meanwhile.", None)


def test_a_plan_is_found_by_the_beginning_of_its_key(store, plan):
    for key in ("abcd", "abef", "ab12", "abcdef"):
        assert store.save(key, plan, {}) is None
    assert store.find("abe").key == "abef"
    assert store.find("abcd").key == "abcd"
    with pytest.raises(PlanError, match="4 stored plans .* 'ab': ab12, abcd, abcdef, abef. Give"):
        store.find("ab")
    for prefix in ("x", ""):
        with pytest.raises(VecselectError, match="No stored plan has a key"):
            store.find(prefix)


def test_only_what_is_meant_is_forgotten(store, plan):
    for key in ("abcd", "abef", "xy", "xyz"):
        assert store.save(key, plan, {}) is None
    assert store.forget("") == []
    assert store.forget("no") == []
    assert store.forget("xy") == ["xy"]
    assert store.forget("ab") == ["abcd", "abef"]
    assert store.forget(None) == ["xyz"]
    assert store.entries() == []


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


def test_a_calibration_comes_back_apart_from_the_plans(store, plan, cache):
    data = {"hand_off_s": 6e-5, "per_byte": [1, 2.5], "note": None}
    assert store.load_calibration(KEY) is None
    store.save_calibration(KEY, data)
    assert PlanStore().load_calibration(KEY) == data
    assert store.entries() == []
    assert names(cache / "machines") == [f"{KEY}.json"]


def test_a_damaged_calibration_is_one_warning(store, cache):
    store.save_calibration(KEY, {"hand_off_s": 6e-5})
    flip_checksum(cache / "machines" / f"{KEY}.json")
    with pytest.warns(VecselectWarning, match="measured again") as caught:
        assert store.load_calibration(KEY) is None
        assert store.load_calibration(KEY) is None
    assert len(caught) == 1


def test_loading_takes_a_few_milliseconds(store, plan):
    saved(store, plan)
    taken_s = []
    for _ in range(10):
        start_s = time.perf_counter()
        assert PlanStore().load(KEY) is not None
        taken_s.append(time.perf_counter() - start_s)
    assert min(taken_s) < 5e-3


WRITER = """
import dataclasses, pathlib, sys
from vecselect.store.key import key_of
from vecselect.store.plans import Observed, PlanStore
from vecselect.plan import Plan

store = PlanStore()
fields = {"num_envs": 0}
key = key_of(fields)
plan = Plan.from_json(pathlib.Path(sys.argv[2]).read_text())
# Plans of different length: a mixture of two would not even parse.
plan = dataclasses.replace(plan, reason=sys.argv[1] * 20_000)
for i in range(150):
    why = store.save(key, plan, fields)
    assert why is None, why
    store.note_observed(key, Observed(i, 1.0, 1.0, 1.0))
"""


def test_processes_that_write_and_read_at_once_never_meet_half_a_file(store, plan, tmp_path):
    fields = {"num_envs": 0}
    key = key_of(fields)
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert store.save(key, plan, fields) is None
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, word, tmp_path / "plan.json"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for word in ("a", "long")
    ]
    seen = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(writer.poll() is None for writer in writers):
            entry = store.load(key)
            assert entry is not None
            seen.add(entry.plan.reason[:1])
    complaints = [writer.communicate(timeout=100)[1] for writer in writers]
    assert complaints == ["", ""]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert {"a", "l"} <= seen
    assert names(store.folder / "plans") == [f"{key}.json"]

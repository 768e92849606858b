"""A file or a folder of stored plans that cannot be used never stops anyone."""

import dataclasses
import errno
import json
import os
import time
import warnings

import pytest

import vecselect
from tests.stored import KEY, OBSERVED, fields_of, names, saved
from vecselect import PlanError
from vecselect.errors import VecselectWarning
from vecselect.store.key import digest
from vecselect.store.plans import PlanStore


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


def test_a_damaged_calibration_is_one_warning(store, cache):
    store.save_calibration(KEY, {"hand_off_s": 6e-5})
    flip_checksum(cache / "machines" / f"{KEY}.json")
    with pytest.warns(VecselectWarning, match="measured again") as caught:
        assert store.load_calibration(KEY) is None
        assert store.load_calibration(KEY) is None
    assert len(caught) == 1


@pytest.fixture
def unsearchable(cache):
    """A store in a folder that this user may not search, as another user's home."""
    (cache / "plans").mkdir(parents=True)
    cache.chmod(0)
    root = os.name == "posix" and os.geteuid() == 0
    if root:  # who may search every folder
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)
    cache.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="folders of POSIX")
def test_a_folder_that_may_not_be_searched_is_gone_without(plan, unsearchable):
    store = PlanStore()
    assert store.load(KEY) is None
    assert store.entries() == []
    assert store.load_calibration(KEY) is None
    assert "Permission denied" in store.save(KEY, plan, fields_of(0))
    store.save_calibration(KEY, {})
    store.note_observed(KEY, OBSERVED)
    assert store.forget(KEY) == []


def test_a_store_that_cannot_be_written_is_told_of_once(cache):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    with pytest.warns(
        VecselectWarning, match="planned anew at every start.*VECSELECT_CACHE_DIR"
    ) as caught:
        for _ in range(2):
            plan = vecselect.recommend("CartPole-v1", 2, budget_s=0.2)
            assert plan.key is None
            assert "could not be stored" in plan.not_stored
    assert len(caught) == 1

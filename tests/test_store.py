"""Plans on disk: what is stored comes back, is found and forgotten, and nobody meets half of it."""

import dataclasses
import functools
import json
import os
import pathlib
import stat
import subprocess
import sys
import warnings

import gymnasium as gym
import pytest

import vecselect
from tests.stored import KEY, OBSERVED, fields_of, names, saved
from tests.zoo import EchoEnv
from vecselect import PlanError, VecselectError
from vecselect.store.key import key_of
from vecselect.store.plans import PlanStore


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


def test_a_calibration_comes_back_apart_from_the_plans(store, plan, cache):
    data = {"hand_off_s": 6e-5, "per_byte": [1, 2.5], "note": None}
    assert store.load_calibration(KEY) is None
    store.save_calibration(KEY, data)
    assert PlanStore().load_calibration(KEY) == data
    assert store.entries() == []
    assert names(cache / "machines") == [f"{KEY}.json"]


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


TOKEN = "sk-not-for-others"


class Licensed(EchoEnv):
    """Takes something secret."""

    def __init__(self, token=None):
        super().__init__()


class Watermark(gym.Wrapper):
    def __init__(self, env, token):
        super().__init__(env)


gym.register("Licensed-v0", entry_point=Licensed)


@pytest.mark.skipif(os.name != "posix", reason="the modes of files are POSIX's")
def test_what_environments_are_built_with_is_neither_stored_nor_exported(store):
    wrappers = [functools.partial(Watermark, token=TOKEN)]
    before = os.umask(0o022)
    try:
        for arguments, options in (
            (("Licensed-v0", 2), {"token": TOKEN, "wrappers": wrappers}),
            ((functools.partial(Licensed, TOKEN), 2), {}),
            (([lambda: Licensed(TOKEN), lambda: Licensed(token=TOKEN)],), {}),
        ):
            assert vecselect.recommend(*arguments, budget_s=0.2, **options).key is not None
    finally:
        os.umask(before)
    assert len(store.entries()) == 3
    assert TOKEN not in store.export_json()
    for path in [store.folder, *store.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        assert path.is_dir() or TOKEN not in path.read_text()

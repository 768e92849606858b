"""Plans on disk: they come back, with what runs have shown, and trouble with files stops nobody."""

import dataclasses
import errno
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time
import warnings

import pytest

from tests.cached import KEY, PLAN, SEEN, days_ago, key_of, saved
from tests.plans import ONE_THREAD, RACED
from vecselect import VecselectWarning
from vecselect.planning import cache as cache_module
from vecselect.planning.cache import MOST_PLANS, PlanCache

needs_flock = pytest.mark.skipif(cache_module.fcntl is None, reason="no flock here")


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch):
    monkeypatch.setattr(cache_module, "_warned", set())


def files(cache):
    return sorted(path.name for path in (cache.folder / "plans").iterdir())


def numbers(cache):
    return [one.fields["number"] for one in cache.entries()]


# What is saved comes back


def test_the_folder_is_the_one_that_is_given_or_named_or_the_users(tmp_path, monkeypatch):
    assert PlanCache(tmp_path).folder == tmp_path
    assert PlanCache().folder == tmp_path / "cache"
    monkeypatch.delenv("VECSELECT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert PlanCache().folder.name == "vecselect"
    if sys.platform == "linux":
        assert PlanCache().folder == tmp_path / "xdg" / "vecselect"


@pytest.mark.parametrize("plan", [PLAN, RACED, ONE_THREAD], ids=lambda plan: plan.decided_by)
def test_what_is_saved_is_recalled_unchanged(cache, plan, tmp_path):
    assert (cache.recall(KEY.digest), cache.entries(), cache.keys()) == (None, [], [])
    assert not cache.folder.exists()
    plan = dataclasses.replace(plan, created=days_ago(1), key=KEY.digest)
    path = saved(cache, plan=plan)
    stored = PlanCache().recall(KEY.digest)
    assert (stored.plan, stored.fields, stored.runs) == (plan, KEY.fields, {})
    assert (stored.key, stored.path) == (KEY.digest, path)
    assert files(cache) == [path.name]
    shutil.copytree(cache.folder, tmp_path / "other")  # another machine's, say
    (there,) = PlanCache(tmp_path / "other").entries()
    assert there.to_dict() == stored.to_dict()


def test_entries_are_all_plans_the_newest_first(cache):
    for number, days in enumerate([3, 1, 2]):
        saved(cache, key_of(number), created=days_ago(days))
    (cache.folder / "plans" / f"{'0' * 16}.json").write_text("garbage")
    assert numbers(cache) == [1, 2, 0]
    assert len(cache.keys()) == 4
    assert cache.forget(key_of(1).digest)
    assert not cache.forget(key_of(1).digest)
    assert numbers(cache) == [2, 0]


@pytest.mark.skipif(os.name != "posix", reason="no such permissions")
def test_nobody_else_may_read_what_one_runs(cache):
    path = saved(cache)
    assert {one.stat().st_mode & 0o777 for one in (cache.folder, path.parent)} == {0o700}


# What runs have shown


def test_each_script_keeps_the_latest_of_each_mode_and_threads(cache):
    saved(cache)
    sync, one_thread, again = (
        dataclasses.replace(SEEN, **changes)
        for changes in ({"mode": "sync"}, {"threads": 1}, {"inside_s": 9.0})
    )
    for observation in (SEEN, sync, one_thread, again):
        cache.observe(KEY.digest, "ppo.py", observation)
    cache.observe(KEY.digest, "dqn.py", sync)
    saved(cache, reason="Another.")  # which takes the place of the plan alone
    stored = cache.recall(KEY.digest)
    assert stored.plan.reason == "Another."
    assert stored.runs == {"ppo.py": (sync, one_thread, again), "dqn.py": (sync,)}


def test_the_scripts_that_ran_last_are_kept(cache):
    saved(cache)
    names = [f"{number}.py" for number in range(10)]
    for name in (*names, "3.py"):
        cache.observe(KEY.digest, name, SEEN)
    assert list(cache.recall(KEY.digest).runs) == [*names[2:3], *names[4:], "3.py"]
    cache.forget(KEY.digest)
    cache.observe(KEY.digest, "3.py", SEEN)
    assert files(cache) == []  # it brings no plan back


# What cannot be used


@pytest.mark.parametrize(("provisional", "days"), [(None, 90), ("The machine was busy.", 1 / 24)])
def test_plans_expire_and_what_runs_have_shown_does_not(cache, provisional, days):
    saved(cache, provisional=provisional, created=days_ago(days * 0.9))
    assert not cache.recall(KEY.digest).expired
    old = days_ago(days * 1.1)
    for created in (old, days_ago(-2), "some day", "2025-01-01"):
        saved(cache, provisional=provisional, created=created)
        cache.observe(KEY.digest, "train.py", SEEN)
        assert cache.recall(KEY.digest).expired
        listed = provisional is not None and created == old
        assert bool(cache.entries()) == listed  # it can still be explained
    saved(cache)
    assert cache.recall(KEY.digest).runs == {"train.py": (SEEN,)}


@pytest.mark.parametrize(
    ("kinds", "serves"),
    [
        (("sync", "pool", "async"), True),
        ({"sync", "pool"}, True),
        (("sync", "async"), False),  # its own mode, pool:1, cannot run
        (("sync", "pool", "thread"), True),
        (("sync", "pool", "ray"), False),
    ],
)
def test_a_plan_serves_where_its_mode_can_run_and_no_other_could_have_been_chosen(
    cache, kinds, serves
):
    evidence = dataclasses.replace(PLAN.evidence, ruled_out=("thread",))
    saved(cache, evidence=evidence)
    stored = cache.recall(KEY.digest)
    assert stored.serves(kinds) is serves
    assert not dataclasses.replace(
        stored, plan=dataclasses.replace(PLAN, created=days_ago(99))
    ).serves(kinds)


def with_fields(**changes):
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES = {
    "garbage": lambda path: path.write_bytes(b"\xff\x00garbage"),
    "empty": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_text("null"),
    "deep": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "truncated": lambda path: path.write_text(path.read_text()[:-40]),
    "foreign": lambda path: path.write_text('{"name": "x"}'),
    "no fields": with_fields(fields=None),
    "no plan": with_fields(plan=None),
    "no mode": with_fields(plan=dataclasses.replace(PLAN, mode="zzz").to_dict()),
    "of another schema": with_fields(plan={**PLAN.to_dict(), "schema": 99}),
    "runs": with_fields(runs={"train.py": [{}]}),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a loop": lambda path: (path.unlink(), path.symlink_to(path)),
}


def test_a_damaged_plan_is_not_there_and_made_anew(cache):
    for name, damage in DAMAGES.items():
        path = saved(cache)
        damage(path)
        assert cache.entries() == [], name
        cache.observe(KEY.digest, "train.py", SEEN)
        assert cache.recall(KEY.digest) is None, name
    saved(cache)
    assert cache.recall(KEY.digest).plan == PLAN


def test_a_number_that_json_does_not_know_is_not_stored(cache):
    why = cache.save(KEY, dataclasses.replace(PLAN, planning_s=math.nan))
    assert why.startswith("The plan cannot be stored: ") and why.endswith(".")
    assert cache.keys() == []


# A folder that is in the way, full, or crowded


def refused(*arguments, **options):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("folder", ["a file", "closed"])
def test_a_folder_that_cannot_be_used_is_done_without(cache, monkeypatch, folder):
    """Closed as root's cache under `sudo -u` with HOME kept, whoever runs this test."""
    if folder == "a file":
        cache.folder.write_text("a file where the folder should be")
    else:
        saved(cache)
        for module, names in (
            (os, ("open", "mkdir", "stat", "listdir", "scandir", "unlink")),
            (pathlib.Path, ("mkdir", "unlink", "exists", "is_file")),
        ):
            for name in names:
                monkeypatch.setattr(module, name, refused)
    with pytest.warns(VecselectWarning) as caught:
        for _ in range(3):
            said = PlanCache().save(KEY, PLAN)
            assert str(cache.folder) in said and said.endswith(".")
            assert folder == "a file" or "Permission denied" in said
    (warning,) = caught  # once
    for part in (said, "VECSELECT_CACHE_DIR", "use_store=False"):
        assert part in str(warning.message)
    cache.observe(KEY.digest, "train.py", SEEN)
    assert cache.recall(KEY.digest) is None
    assert (cache.entries(), cache.keys(), cache.forget(KEY.digest)) == ([], [], False)


def test_a_full_disk_leaves_the_old_plan_and_nothing_else(cache, monkeypatch):
    path = saved(cache)

    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.warns(VecselectWarning, match="No space left on device"):
        assert "No space left" in cache.save(KEY, dataclasses.replace(PLAN, reason="New."))
    assert files(cache) == [path.name]
    assert cache.recall(KEY.digest).plan == PLAN


def test_plans_not_used_for_longest_make_room(cache, monkeypatch):
    monkeypatch.setattr(cache_module, "MOST_PLANS", 5)
    assert 100 <= MOST_PLANS <= 1000
    for number in range(5):
        path = saved(cache, key_of(number))
        used_s = time.time() - 1000 + number
        os.utime(path, (used_s, used_s))
    assert cache.recall(key_of(0).digest)  # so that it is the last one used
    for number in (5, 6):
        saved(cache, key_of(number))
    assert sorted(numbers(cache)) == [0, 3, 4, 5, 6]


# Several at once

WRITER = """
import dataclasses, sys
from tests.cached import KEY, PLAN, SEEN
from vecselect.planning import cache as cache_module

cache_module.LOCK_WAIT_S = 60.0  # the other one takes it up again at once
cache, word = cache_module.PlanCache(), sys.argv[1]
# Plans of different length: a mixture of two would not even parse.
plan = dataclasses.replace(PLAN, reason=word * 5_000)
for number in range(40):
    assert cache.save(KEY, plan) is None
    cache.observe(KEY.digest, f"{word}.py", dataclasses.replace(SEEN, mode=f"pool:{number}"))
"""


@pytest.mark.full
def test_processes_that_write_at_once_lose_nothing(cache):
    saved(cache)
    command = [sys.executable, "-W", "error", "-c", WRITER]
    writers = [
        subprocess.Popen([*command, word], stderr=subprocess.PIPE, text=True)
        for word in ("a", "long")
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        stored = cache.recall(KEY.digest)
        assert stored is not None
        seen.add(stored.plan.reason[:1])
    assert [writer.communicate(timeout=100)[1] for writer in writers] == ["", ""]
    assert {"a", "l"} <= seen
    if cache_module.fcntl is not None:
        counts = {name: len(ones) for name, ones in cache.recall(KEY.digest).runs.items()}
        assert counts == {"a.py": 40, "long.py": 40}
    assert files(cache) == [f"{KEY.digest}.json"]


@needs_flock
def test_a_process_forked_meanwhile_does_not_keep_the_lock(cache):
    read, write = os.pipe()
    with cache._held(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of the test run
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    try:
        with open(cache.folder / "cache.lock", "ab") as file:
            cache_module.fcntl.flock(file, cache_module.fcntl.LOCK_EX | cache_module.fcntl.LOCK_NB)
    finally:
        os.close(write)
        os.waitpid(child, 0)
        os.close(read)


@pytest.mark.parametrize("lock", ["none there", pytest.param("held for long", marks=needs_flock)])
def test_without_a_lock_it_is_written_all_the_same(cache, monkeypatch, lock):
    monkeypatch.setattr(cache_module, "LOCK_WAIT_S", 0.05)
    if lock == "none there":
        monkeypatch.setattr(cache_module, "fcntl", None)
    with cache._held():
        saved(cache)
        cache.observe(KEY.digest, "train.py", SEEN)
    assert cache.recall(KEY.digest).runs == {"train.py": (SEEN,)}

"""What the tests of the plan cache put into it."""

import dataclasses
import datetime

from tests.plans import BY_MODEL
from vecselect.planning.plan_key import Key
from vecselect.selection.evidence import Observation

SEEN = Observation("pool:1", 2, 500, inside_s=1.5e-3, outside_s=2.5e-3)


def key_of(number=0, num_envs=8, **fields):
    return Key.of({"number": number, "num_envs": num_envs, "vector_kwargs": {}, **fields})


KEY = key_of()


def days_ago(days):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now - datetime.timedelta(days=days)).isoformat(timespec="seconds")


PLAN = dataclasses.replace(BY_MODEL, created=days_ago(1), key=KEY.digest)


def saved(cache, key=KEY, plan=PLAN, **changes):
    assert cache.save(key, dataclasses.replace(plan, **{"key": key.digest, **changes})) is None
    return cache.folder / "plans" / f"{key.digest}.json"

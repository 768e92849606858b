"""What the tests of plans and of their cache put into it, sound and not."""

import copy
import dataclasses
import datetime

from tests.plans import BY_MODEL
from vecselect.planning.plan_key import Key
from vecselect.selection.evidence import ObservedRun

SEEN = ObservedRun("pool:1", 2, 500, inside_s=1.5e-3, outside_s=2.5e-3)


def key_of(number=0):
    return Key.of({"number": number})


KEY = key_of()


def days_ago(days):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now - datetime.timedelta(days=days)).isoformat(timespec="seconds")


PLAN = dataclasses.replace(BY_MODEL, created=days_ago(1), key=KEY.digest)


def saved(cache, key=KEY, plan=PLAN, **changes):
    assert cache.save(key, dataclasses.replace(plan, **{"key": key.digest, **changes})) is None
    return cache.folder / "plans" / f"{key.digest}.json"


ANYTHING = (
    *(None, True, 0, -1, 1, 7.5, -2.5, 1e308, 1e-308, 10**18, 10**400),
    *(float("nan"), float("inf"), "", "zzz", "pool:9999", "\udc80", "\x1b["),
    *([], [1], [None], {}, {"a": 1}),
)
"""What may stand in a document that somebody has tampered with."""


def places(value, path=()):
    """Where something stands in a document; of long lists the first two places."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:2]) if isinstance(value, list) else items
    for key, part in items:
        yield from places(part, (*path, key))


def changed(document, path, *value):
    """A copy of a document with another value in a place, or without it."""
    document = copy.deepcopy(document)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if value:
        holder[path[-1]] = value[0]
    else:
        del holder[path[-1]]
    return document

"""What the tests of the plan store put into it."""

import dataclasses

from vecselect.store.key import key_of
from vecselect.store.plans import Observed

OBSERVED = Observed(vector_steps=100, inside_s=1.5, outside_s=0.25, gap_s=2e-3)


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

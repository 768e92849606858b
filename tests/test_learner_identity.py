"""A learner is told by what it does, and not by what it has learned or in which run."""

import collections
import functools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.zoo import EchoEnv
from vecselect import recommend
from vecselect.store.learner import identify_learner


class FakeTensor:
    """What is looked at of a tensor; its content must not be."""

    def __init__(self, *shape, device="cpu"):
        self._shape, self._device = shape, device
        self.steps = np.random.random()  # not an attribute that counts

    shape = property(lambda self: self._shape)
    dtype = property(lambda self: "float32")
    device = property(lambda self: self._device)

    def __eq__(self, other):
        raise AssertionError("tensors are not compared")

    def __hash__(self):
        return id(self)

    def numpy(self):
        raise AssertionError("tensors are not copied to this device")

    __array__ = tolist = __iter__ = numpy


class Linear:
    """As `torch.nn.Module` keeps its parts."""

    def __init__(self, wide=64, device="cpu"):
        self.training = True
        self._parameters = {"weight": FakeTensor(wide, 4, device=device)}
        self._modules = {}

    def __call__(self, observations):
        return observations

    def act(self, observations):
        return self(observations)


class Net(Linear):
    def __init__(self, wide=64, layers=2, **options):
        super().__init__(wide)
        self._modules = {str(i): Linear(wide, **options) for i in range(layers)}


class Sleeper:
    def __init__(self, seconds, **more):
        self.seconds = seconds
        vars(self).update(more)

    def __call__(self, observations):
        time.sleep(self.seconds)

    def act(self, observations):
        time.sleep(self.seconds)


def over(policy):
    return lambda observations: policy(observations)


def waiting(seconds):
    def learner(observations, again=1):
        time.sleep(seconds)

    return learner


def another_waiting(seconds):
    def learner(observations, again=1):
        time.sleep(2 * seconds)

    learner.__qualname__ = waiting(0).__qualname__
    return learner


def act(policy, observations):
    return policy(observations)


DIFFERENT = {
    "code": (lambda o: None, lambda o: time.sleep(0.05)),
    "redefined": (waiting(0.1), another_waiting(0.1)),
    "closure": (waiting(0.1), waiting(0.2)),
    "text in a closure": (over("fast"), over("slow")),
    "instance": (Sleeper(0), Sleeper(0.05)),
    "numpy number": (Sleeper(np.float32(1)), Sleeper(np.float32(2))),
    "bound method": (Sleeper(0).act, Sleeper(0.05).act),
    "method": (Sleeper(0).act, Sleeper(0)),
    "partial": (functools.partial(act, 1), functools.partial(act, 2)),
    "object in a closure": (over(Sleeper(0)), over(Sleeper(0.05))),
    "width": (Net(64), Net(65)),
    "width in a closure": (over(Net(64)), over(Net(65))),
    "width of a method's": (Net(64).act, Net(65).act),
    "layers": (Net(layers=2), Net(layers=3)),
    "device": (Net(), Net(device="cuda:0")),
    "class": (Linear(), Net(layers=0)),
    "array shape": (over(np.zeros(3)), over(np.zeros(4))),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_does_something_else_is_another_learner(case):
    one, other = DIFFERENT[case]
    assert identify_learner(one) != identify_learner(other)


def trained(net):
    net._parameters["weight"] = FakeTensor(64, 4)
    return net


def holding(**attributes):
    return Sleeper(0.1, **attributes)


def optimizer(steps):
    """As torch keeps one: its state grows, by parameter."""
    net = Net()
    state = {tensor: {"step": FakeTensor(steps)} for tensor in [FakeTensor(1)] * steps}
    return holding(net=net, state=state, param_groups=[{"params": [FakeTensor(64, 4)], "lr": 0.1}])


SAME = {
    "function": lambda: waiting(0.1),
    "module": Net,
    "act": lambda: Net().act,
    "lambda over a module": lambda: over(Net()),
    "partial": lambda: functools.partial(act, Net()),
    "weights": lambda: over(trained(Net())),
    "array": lambda: over(np.random.random(5)),
    "optimizer": lambda: optimizer(0),
    "lock": lambda: holding(lock=threading.Lock()),
    "file": lambda: holding(file=open(__file__)),  # noqa: SIM115
    "generator": lambda: holding(generator=np.random.default_rng()),
    "run": lambda: holding(name=f"run {time.time()}", folder=[f"/tmp/{time.time()}"]),
    "start": lambda: holding(start_s=time.time()),
    "bytes": lambda: holding(state=np.random.bytes(9)),
    "buffer": lambda: holding(seen=[np.random.random() for _ in range(100)]),
    "queue": lambda: holding(seen=collections.deque(np.random.random(100).tolist())),
    "environment": lambda: over(EchoEnv(np.random.randint(1000))),
    "builtin": lambda: len,
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_made_again_is_the_same_learner(case):
    with_files = [SAME[case]() for _ in range(2)]
    one, other = map(identify_learner, with_files)
    assert one == other
    assert "only" not in one
    for made in with_files:
        if hasattr(made, "file"):
            made.file.close()


def test_an_optimizer_that_has_learned_is_the_same():
    assert identify_learner(optimizer(0)) == identify_learner(optimizer(1))


def test_what_holds_itself_is_looked_at_once_around():
    def made(seconds):
        agent = Sleeper(seconds)
        agent.trainer = Sleeper(0, agent=agent)
        return agent

    assert identify_learner(made(0)) == identify_learner(made(0)) != identify_learner(made(1))


class Hostile:
    """Raises wherever one looks."""

    def __getattr__(self, name):
        raise LookupError(name)

    @property
    def __dict__(self):
        raise LookupError("vars")

    def __call__(self, observations):
        return None


def test_what_cannot_be_looked_into_counts_by_its_class():
    assert identify_learner(over(Hostile())) == identify_learner(over(Hostile()))
    assert identify_learner(over(Hostile())) != identify_learner(over(object()))


def test_a_huge_network_takes_milliseconds():
    net = Net(layers=0)
    for _ in range(4):
        net = holding(parts={str(i): net for i in range(50)}, few=Net(layers=200))
    net.more = {str(i): Net(layers=50) for i in range(200)}
    taken_s = []
    for _ in range(3):
        start_s = time.perf_counter()
        identify_learner(net)
        taken_s.append(time.perf_counter() - start_s)
    assert min(taken_s) < 0.5


SCRIPT = """
import time
from vecselect.store.learner import identify_learner

SECONDS = {seconds}
started_s = time.time()

class Policy:
    def __init__(self):
        self.calls = 0

    def act(self, observations):
        time.sleep(SECONDS)

policy = Policy()
print(identify_learner(lambda observations: (policy.act(observations), started_s)))
"""


def test_scripts_tell_their_learners_by_the_globals_they_use():
    def told(seconds):
        code = SCRIPT.format(seconds=seconds)
        run = [sys.executable, "-c", code]
        return subprocess.run(run, capture_output=True, text=True, check=True, timeout=100).stdout

    assert told(0.1) == told(0.1) != told(0.2)


def test_a_plan_is_not_recalled_for_another_learner():
    def planned(learner):
        return recommend("CartPole-v1", 2, effort="estimate", budget_s=0.3, learner=learner)

    first = planned(waiting(0))
    assert planned(waiting(0)).recalled
    other = planned(waiting(0.05))
    assert not other.recalled
    assert other.key != first.key

"""Profiling in a child process: whatever the environment does, the caller gets an answer."""

import functools
import gc
import os
import signal
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces

from vecselect import ProfileError, RequestError
from vecselect.failures import RemoteTraceback
from vecselect.machine import read_machine
from vecselect.measure.probe import probe

PHASES = ("construct", "reset", "step")
USED = ("reset", "step")
QUICKLY_S = 10.0


class Faulty(gym.Env):
    """Does `act` when it comes to `phase`; observes the number of its process."""

    observation_space = spaces.Box(0, 1 << 30, (1,), np.int64)
    action_space = spaces.Discrete(3)

    def __init__(self, phase=None, act=None, closed_file=None):
        self.phase, self.act, self.closed_file = phase, act, closed_file
        self.enter("construct")

    def enter(self, phase):
        if phase == self.phase:
            self.act()

    def reset(self, *, seed=None, options=None):
        self.enter("reset")
        return np.array([os.getpid()]), {}

    def step(self, action):
        self.enter("step")
        return np.array([os.getpid()]), 0.0, False, False, {}

    def close(self):
        self.enter("close")
        if self.closed_file is not None:
            self.closed_file.touch()


class Unrebuildable(Exception):
    """Pickles, but cannot be made again from its message alone."""

    def __init__(self, code, detail):
        super().__init__(f"code {code}: {detail}")


def raise_lookup_error():
    raise LookupError("no such joint")


def raise_unrebuildable():
    raise Unrebuildable(42, "the arm broke")


def kill_itself(number):
    os.kill(os.getpid(), number)


def sleep_forever():
    time.sleep(3600)


def faulty(*args, **kwargs):
    return functools.partial(Faulty, *args, **kwargs)


def probed(*env_fns, **kwargs):
    return probe(env_fns, **{"budget_s": 0.05, **kwargs})


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module", autouse=True)
def helpers_that_stay():
    """The fork server and the resource tracker, which multiprocessing starts once and keeps."""
    for method in ("forkserver", "spawn"):
        probed(Faulty, start_method=method)


@pytest.fixture(autouse=True)
def no_process_is_left():
    before = children()
    yield
    assert children() <= before


def the_failure(*env_fns, **kwargs):
    with pytest.raises(ProfileError) as caught:
        probed(*env_fns, **kwargs)
    return caught.value


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_a_probe_finds(method):
    found = probed(Faulty, start_method=method)
    assert found.profile.steps >= 1
    assert found.profile.step_time_s > 0
    assert found.observation_space == Faulty.observation_space
    assert found.action_space == Faulty.action_space
    assert found.observation in found.observation_space
    assert 0 < found.construct_s < found.start_s < 60


def test_the_environment_lives_in_another_process():
    assert probed(Faulty).observation[0] != os.getpid()


class Frozen(Faulty):
    """Observes how many objects no collection looks at."""

    def reset(self, *, seed=None, options=None):
        return np.array([gc.get_freeze_count()]), {}


def test_what_was_loaded_before_is_not_collected_in_the_midst_of_what_is_measured():
    assert probed(Frozen).transitions[0][0][0] > 1000


def allocate():
    Faulty.held = np.ones(64 << 20, np.uint8)


def test_memory_is_what_the_environment_added():
    assert probed(faulty("construct", allocate)).profile.memory_bytes >= 64 << 20
    assert 0 <= probed(Faulty).profile.memory_bytes < 64 << 20


@pytest.mark.parametrize(("phase", "act"), [(None, None), ("step", raise_lookup_error)])
def test_the_environment_is_closed_however_it_went(tmp_path, phase, act):
    file = tmp_path / "closed"
    env_fn = faulty(phase, act, file)
    if phase is None:
        probed(env_fn)
    else:
        the_failure(env_fn)
    assert file.exists()


@pytest.mark.parametrize("phase", USED)
def test_an_exception_is_chained_with_its_traceback(phase):
    failure = the_failure(faulty(phase, raise_lookup_error))
    assert f"LookupError in {phase}()" in str(failure)
    assert "no such joint" in str(failure)
    assert type(failure.__cause__) is LookupError
    assert failure.__cause__.args == ("no such joint",)
    remote = failure.__cause__.__cause__
    assert isinstance(remote, RemoteTraceback)
    assert "in raise_lookup_error" in str(remote)
    assert "LookupError: no such joint" in remote.text


@pytest.mark.parametrize("builds", [0, 1])
def test_what_building_raises_is_raised_as_it_is(builds):
    factories = [Faulty] * builds + [faulty("construct", raise_lookup_error)]
    with pytest.raises(LookupError, match="no such joint") as caught:
        probed(*factories)
    assert caught.value.args == ("no such joint",)
    remote = caught.value.__cause__
    assert isinstance(remote, RemoteTraceback)
    assert "in raise_lookup_error" in str(remote)
    if sys.version_info >= (3, 11):
        [note] = caught.value.__notes__
        assert "being built for measuring" in note


def test_what_ends_a_process_while_building_is_no_exception_of_this_one():
    assert "SystemExit in construct()" in str(the_failure(faulty("construct", sys.exit)))


@pytest.mark.parametrize("phase", PHASES)
def test_an_exception_that_cannot_be_rebuilt_still_has_its_name_and_text(phase):
    failure = the_failure(faulty(phase, raise_unrebuildable))
    assert f"Unrebuildable in {phase}()" in str(failure)
    assert "code 42: the arm broke" in str(failure)
    assert isinstance(failure.__cause__, RemoteTraceback)
    assert "in raise_unrebuildable" in str(failure.__cause__)


@pytest.mark.parametrize("phase", USED)
def test_an_exception_class_defined_in_a_function(phase):
    class LocalError(Exception):
        pass

    def fail():
        raise LocalError("from in here")

    failure = the_failure(faulty(phase, fail))
    assert f"LocalError in {phase}()" in str(failure)
    assert "from in here" in str(failure)
    assert type(failure.__cause__).__name__ == "LocalError"
    assert str(failure.__cause__) == "from in here"


@pytest.mark.parametrize("phase", PHASES)
def test_a_process_that_exits_is_named_with_its_code_and_phase(phase):
    failure = the_failure(faulty(phase, functools.partial(os._exit, 3)))
    assert f"exited with code 3 in {phase}()" in str(failure)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda n: n.name)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_process_that_is_killed_is_named_with_its_signal_and_phase(number, method):
    act = functools.partial(kill_itself, number)
    failure = the_failure(faulty("step", act), start_method=method)
    assert f"was ended by {number.name} in step()" in str(failure)


@pytest.mark.parametrize("phase", ["reset", "step"])
def test_a_call_that_never_returns_is_given_up(phase):
    start_s = time.monotonic()
    failure = the_failure(faulty(phase, sleep_forever), stall_limit_s=1.0)
    assert time.monotonic() - start_s < QUICKLY_S
    assert f"did not return from {phase}() within 1 s" in str(failure)


def test_a_constructor_that_never_returns_is_given_up():
    start_s = time.monotonic()
    failure = the_failure(faulty("construct", sleep_forever), construct_limit_s=2.0)
    assert time.monotonic() - start_s < QUICKLY_S
    assert "did not return from construct() within 2 s" in str(failure)


def test_a_constructor_may_take_longer_than_a_step():
    act = functools.partial(time.sleep, 0.7)
    assert probed(faulty("construct", act), stall_limit_s=0.5).construct_s >= 0.7


def test_what_the_first_one_imports_is_not_taken_for_building_every_one():
    found = probed(faulty("construct", functools.partial(time.sleep, 0.7)), faulty())
    assert found.construct_s < 0.7 < found.start_s


def test_a_call_that_ignores_being_asked_to_end_is_killed():
    def hang():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)

    start_s = time.monotonic()
    assert "step()" in str(the_failure(faulty("step", hang), stall_limit_s=1.0))
    assert time.monotonic() - start_s < QUICKLY_S


@pytest.mark.parametrize("wrapped", [False, True])
def test_two_factories_of_one_instance_are_a_request_error(wrapped):
    shared = Faulty()

    def make():
        return gym.wrappers.TimeLimit(shared, 10) if wrapped else shared

    with pytest.raises(RequestError, match="0 and 1 return the same instance"):
        probed(make, lambda: make())


def test_no_more_than_two_factories_are_called(tmp_path):
    def make():
        (tmp_path / str(time.monotonic_ns())).touch()
        return Faulty()

    probed(*[make] * 8)
    assert len(list(tmp_path.iterdir())) == 2


def test_lambdas_and_local_classes_are_sent():
    class Local(Faulty):
        metadata = {"render_modes": ["nothing"]}

    found = probed(lambda: Local(), lambda: Local(), start_method="spawn")
    assert found.observation in Local.observation_space


def fail():
    raise RuntimeError("stuck valve")


@pytest.mark.parametrize("act", [fail, functools.partial(os._exit, 3), sleep_forever])
def test_what_was_measured_stands_if_only_closing_fails(act, capfd):
    found = probe([faulty("close", act)], budget_s=0.05)
    assert found.profile.steps > 0
    assert capfd.readouterr().err == ""


class Computing(Faulty):
    """Computes for a millisecond or so; a thread other than the first one gets `act` as well."""

    def __init__(self, act=int):
        super().__init__()
        self.act = act

    def step(self, action):
        if threading.current_thread() is not threading.main_thread():
            self.act()
        return sum(range(50_000)), 0.0, False, False, {}


def computing(*args):
    return functools.partial(Computing, *args)


@pytest.mark.skipif(read_machine().cores < 2, reason="threads have one core")
def test_two_sub_environments_are_stepped_in_two_threads():
    assert 0.0 <= probed(computing(), computing()).profile.free_share <= 1.0


def test_one_sub_environment_has_no_other_to_be_stepped_beside():
    assert probed(computing()).profile.free_share is None


def test_steps_too_short_for_threads_are_not_tried_in_them():
    assert probed(faulty(), faulty()).profile.free_share is None


@pytest.mark.parametrize("act", [functools.partial(os._exit, 3), raise_lookup_error, sleep_forever])
def test_an_environment_that_threads_break_is_profiled_all_the_same(monkeypatch, act):
    monkeypatch.setattr("vecselect.measure.probe.LOCK_LIMIT_S", 1.0)
    found = probed(computing(act), computing(act))
    assert found.profile.steps > 0
    assert found.profile.free_share is None

"""Profiling in a first worker: whatever the environment does, the caller gets an answer."""

import functools
import gc
import os
import re
import signal
import sys
import time

import gymnasium as gym
import numpy as np
import pytest

from tests.marks import only_full
from tests.probes import SHORT, probed
from tests.processes import output_of
from tests.zoo import ActingEnv
from vecselect import ProfileError, StepTimeout
from vecselect.measure.probe import bypassed_recorders
from vecselect.measure.step import BRIEF
from vecselect.planning import first_worker
from vecselect.planning.first_worker import FirstWorker
from vecselect.process.remote_errors import RemoteTraceback
from vecselect.request import Request, read_request
from vecselect.selection.evidence import HandOff

pytestmark = pytest.mark.usefixtures("processes_end")

PHASES = ("construct", "reset", "step")


def named(phase):
    """How a message names a call of the environment."""
    return "its constructor" if phase == "construct" else f"{phase}()"


QUICKLY_S = 10.0


class Faulty(ActingEnv):
    """Observes the number of its process; leaves a file when it is closed."""

    def __init__(self, phase=None, act=None, closed_file=None):
        self.closed_file = closed_file
        super().__init__(phase, act)

    def reset(self, **kwargs):
        super().reset(**kwargs)
        return np.array([float(os.getpid())]), {}

    def close(self):
        super().close()
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


@pytest.fixture
def stall_limit_s(monkeypatch):
    """A call that takes longer than a second counts as never returning."""
    monkeypatch.setattr(first_worker, "CALL_LIMIT_S", 1.0)


def the_failure(env_fn, **kwargs):
    with pytest.raises(ProfileError) as caught:
        probed(env_fn, **kwargs)
    return caught.value


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_a_probe_finds_in_another_process(method):
    found = probed(Faulty, context=method)
    assert found.profile.steps >= 1
    assert found.profile.step_time_s > 0
    assert found.observation_space == Faulty.observation_space
    assert found.action_space == Faulty.action_space
    assert found.observation in found.observation_space
    assert found.observation[0] != os.getpid()
    assert 0 < found.construct_s < 60


class Frozen(Faulty):
    """Observes how many objects no collection looks at."""

    def reset(self, **kwargs):
        return np.array([float(gc.get_freeze_count())]), {}


def test_what_was_loaded_before_is_not_collected_in_the_midst_of_what_is_measured():
    assert probed(Frozen).observation[0] > 1000


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
    until_s = time.monotonic() + QUICKLY_S  # the process closes it after telling what it found
    while not file.exists() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert file.exists()


def raise_local():
    class LocalError(Exception):
        pass

    raise LocalError("from in here")


@pytest.mark.parametrize(
    ("phase", "act", "name", "text"),
    [
        ("reset", raise_lookup_error, "LookupError", "no such joint"),
        ("step", raise_local, "LocalError", "from in here"),
        *(
            (phase, raise_unrebuildable, "Unrebuildable", "code 42: the arm broke")
            for phase in PHASES
        ),
    ],
)
def test_an_exception_is_chained_with_its_traceback_and_be_it_one_that_cannot_be_rebuilt(
    phase, act, name, text
):
    failure = the_failure(faulty(phase, act))
    assert f"{name} in {named(phase)}" in str(failure) and text in str(failure)
    if act is raise_unrebuildable:
        assert isinstance(failure.__cause__, RemoteTraceback)
        return
    assert (type(failure.__cause__).__name__, str(failure.__cause__)) == (name, text)
    remote = failure.__cause__.__cause__
    assert isinstance(remote, RemoteTraceback)
    assert f"in {act.__name__}" in str(remote) and f"{name}: {text}" in remote.text


def test_what_building_raises_is_raised_as_it_is_but_for_what_ends_a_process():
    with pytest.raises(LookupError, match="no such joint") as caught:
        probed(faulty("construct", raise_lookup_error))
    assert caught.value.args == ("no such joint",)
    remote = caught.value.__cause__
    assert isinstance(remote, RemoteTraceback)
    assert "in raise_lookup_error" in str(remote)
    if sys.version_info >= (3, 11):
        [note] = caught.value.__notes__
        assert "being built for measuring" in note
    assert "SystemExit in its constructor" in str(the_failure(faulty("construct", sys.exit)))


@pytest.mark.parametrize(
    ("phase", "act", "words", "method"),
    [
        ("construct", functools.partial(os._exit, 3), "exited with code 3", "forkserver"),
        ("step", functools.partial(os._exit, 3), "exited with code 3", "forkserver"),
        ("reset", functools.partial(kill_itself, signal.SIGKILL), "ended by SIGKILL", "spawn"),
        ("step", functools.partial(kill_itself, signal.SIGSEGV), "ended by SIGSEGV", "forkserver"),
    ],
)
def test_a_process_that_ends_is_named_with_how_and_the_phase(phase, act, words, method):
    failure = the_failure(faulty(phase, act), context=method)
    assert f"{words} in {named(phase)}" in str(failure)


def hang_for_good():
    """Does not return, nor end when asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep_forever()


FULL = pytest.mark.full


@pytest.mark.parametrize(
    ("phase", "act", "deadlines", "error", "within"),
    [
        ("step", hang_for_good, {}, ProfileError, "1 s"),
        pytest.param("reset", sleep_forever, {}, ProfileError, "1 s", marks=FULL),
        ("construct", sleep_forever, {}, ProfileError, "2 s"),
        ("construct", sleep_forever, {"start_timeout_s": 1.5}, StepTimeout, "start_timeout_s=1.5"),
        ("reset", sleep_forever, {"step_timeout_s": 0.5}, StepTimeout, "step_timeout_s=0.5"),
    ],
)
def test_a_call_that_never_returns_is_given_up_at_the_limit_or_the_deadline(
    phase, act, deadlines, error, within, stall_limit_s, monkeypatch
):
    monkeypatch.setattr(first_worker, "CONSTRUCT_LIMIT_S", 2.0)
    start_s = time.monotonic()
    said = f"did not return from {re.escape(named(phase))} within {within}"
    with pytest.raises(error, match=said) as caught:
        probed(faulty(phase, act), **deadlines)
    assert time.monotonic() - start_s < QUICKLY_S
    key = "start_timeout_s" if phase == "construct" else "step_timeout_s"
    assert 'mode="pool:1"' in str(caught.value) and f"larger {key}" in str(caught.value)


def test_each_step_has_the_whole_deadline():
    class Slow(Faulty):
        def step(self, action):
            time.sleep(0.5)
            return super().step(action)

    request = read_request(Slow, 2, vector_kwargs={"step_timeout_s": 1.0})
    first = FirstWorker(request, SHORT, 1.0)  # which makes three steps
    try:
        assert first.profile().profile.step_time_s > 0.4
    finally:
        first.end()


def test_one_is_built_also_by_a_lambda_of_a_local_class(tmp_path):
    class Local(Faulty):
        metadata = {"render_modes": ["nothing"]}

        def __init__(self):
            super().__init__()
            (tmp_path / str(time.monotonic_ns())).touch()

    found = probed(lambda: Local(), context="spawn")
    assert found.observation in Local.observation_space
    assert len(list(tmp_path.iterdir())) == 1


def fail():
    raise RuntimeError("stuck valve")


@pytest.mark.parametrize("act", [fail, functools.partial(os._exit, 3), *only_full(sleep_forever)])
def test_what_was_measured_stands_if_only_closing_fails(act, capfd):
    found = probed(faulty("close", act))
    assert found.profile.steps > 0
    assert capfd.readouterr().err == ""


# What a first worker does besides


def a_first_worker(env_fn=Faulty):
    return FirstWorker(Request("probed", (env_fn,)), BRIEF, 0.05)


def test_hand_offs_are_timed_within_bounds_awake_and_asleep():
    first, usual = a_first_worker(), HandOff()
    try:
        first.profile()
        found = first.measure_hand_off()
    finally:
        first.end()
    assert found.measured
    for name in ("spun_s", "woken_s"):
        each = getattr(usual, name)
        assert each / first_worker.FAR_OFF <= getattr(found, name) <= each * first_worker.FAR_OFF


@pytest.mark.parametrize("how", ["has ended", "never comes out of closing"])
def test_of_one_that_does_not_answer_no_hand_off_is_known_and_nobody_waits(how, monkeypatch):
    monkeypatch.setattr(first_worker, "ANSWER_LIMIT_S", 0.3)
    first = a_first_worker(Faulty if how == "has ended" else faulty("close", sleep_forever))
    try:
        first.profile()
        if how == "has ended":
            os.kill(first.host.process.pid, signal.SIGKILL)
        assert first.measure_hand_off() is None
    finally:
        first.end()


def test_ending_twice_does_nothing_and_nobody_waits_for_it():
    first = a_first_worker(faulty("close", sleep_forever))
    start_s = time.monotonic()
    first.end()
    first.end()
    assert time.monotonic() - start_s < QUICKLY_S


def test_what_wrappers_record_is_left_out_and_put_back(tmp_path):
    recorder = gym.wrappers.RecordVideo
    before = {name: vars(recorder).get(name) for name in ("__init__", "step", "reset", "close")}
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    with bypassed_recorders():
        wrapped = recorder(env, str(tmp_path / "videos"))
        wrapped.reset(seed=1)
        wrapped.step(0)
        wrapped.close()
    assert not (tmp_path / "videos").exists()
    assert {name: vars(recorder).get(name) for name in before} == before


GIVEN_UP = """
import sys, time
import gymnasium as gym
from vecselect import auto_make_vec
from vecselect.measure.step import BRIEF
from vecselect.planning.first_worker import FirstWorker
from vecselect.request import read_request


class NoRom(gym.Env):
    def __init__(self):
        raise RuntimeError("no ROM found")


FirstWorker(read_request(NoRom, 4), BRIEF, 1.0).end()
time.sleep(0.5)
try:
    auto_make_vec(NoRom, 4, use_store=False)
except RuntimeError as error:
    print(error)
"""


def test_a_process_that_is_given_up_while_it_starts_does_not_complain():
    assert output_of("-c", GIVEN_UP) == "no ROM found\n"

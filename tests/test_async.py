"""Gymnasium's AsyncVectorEnv as mode `async` builds it: how it fails, and what it leaves."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import types

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from gymnasium.vector import SyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

from tests import zoo
from tests.compare import assert_same, assert_same_run
from vecselect import VecselectError, auto_make_vec
from vecselect.errors import ModeUnavailable, StepTimeout, WorkerDied, WorkerError

REPORTED_S = 1.5
CLOSED_S = 5.0
GRACE_S = 15.0


class TwoArguments(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def local_error():
    class Local(Exception):
        pass

    return Local("made in a function")


ERRORS = {
    "runtime": (lambda: RuntimeError("plain", 1), RuntimeError, "plain"),
    "key": (lambda: KeyError("missing"), KeyError, "missing"),
    "unicode": (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UnicodeDecodeError, "bad"),
    "stop": (lambda: StopIteration("over"), StopIteration, "over"),
    "two arguments": (lambda: TwoArguments("left", "right"), WorkerError, "left and right"),
    "unpicklable": (Unpicklable, WorkerError, "holds a lock"),
    "local": (local_error, Exception, "made in a function"),
    "generator exit": (lambda: GeneratorExit("gone"), GeneratorExit, "gone"),
}
DEATHS = {
    "kill": (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "segfault": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
    "exit": (lambda: os._exit(3), "code 3"),
    "sys.exit": (lambda: sys.exit(4), "code 4"),
}
OTHERS = {
    "sleep": lambda: time.sleep(1000),
    "doze": lambda: time.sleep(0.6),
    "popen": lambda: subprocess.Popen(["sleep", "300"]),
    "fork": lambda: fork_once(),
}


def fork_once():
    child = multiprocessing.get_context("fork").Process(target=abs, args=(1,))
    child.start()
    child.join()


def do(deed):
    if deed in ERRORS:
        raise ERRORS[deed][0]()
    (DEATHS[deed][0] if deed in DEATHS else OTHERS[deed])()


class DoEnv(zoo.EchoEnv):
    """Does what it is told in `when`, a dict from a method's name to a deed."""

    builds = 0

    def __init__(self, index=0, row=2, note=None, **when):
        super().__init__(index)
        self.when = when if index == row else {}
        self.note = note
        self.home = os.getppid()
        if not multiprocessing.parent_process():
            DoEnv.builds += 1
            self.when = {}
        self.maybe("construct")

    def maybe(self, method):
        if method in self.when:
            do(self.when[method])

    def tell(self, method, deed, row=2):
        if self.index == row:
            self.when = {method: deed}

    def step(self, action):
        self.maybe("step")
        return super().step(action)

    def reset(self, *, seed=None, options=None):
        self.maybe("reset")
        return super().reset(seed=seed, options=options)

    def do(self, deed, row=2):
        if self.index == row:
            do(deed)

    def where(self):
        return os.getpid(), os.getpgid(0)

    def draw(self):
        return random.random(), float(np.random.random())

    def close(self):
        self.maybe("close")
        if self.note:
            open(os.path.join(self.note, f"closed {self.index}"), "w").close()


ACTIONS = np.arange(4)
ZEROS = np.zeros(4, np.int64)


def make(kind=DoEnv, count=4, options=None, **arguments):
    env_fns = [functools.partial(kind, index, **arguments) for index in range(count)]
    return auto_make_vec(env_fns, mode="async", vector_kwargs=options)


def tell(envs, method, deed, row=2):
    envs.call("tell", method, deed, row)


def pids(envs):
    return [pid for pid, _ in envs.call("where")]


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_gone(some, limit_s=GRACE_S):
    until_s = time.monotonic() + limit_s
    while left := [pid for pid in some if running(pid)]:
        assert time.monotonic() < until_s, f"still running: {left}"
        time.sleep(0.02)


@contextlib.contextmanager
def within(limit_s):
    start_s = time.monotonic()
    yield
    assert time.monotonic() - start_s < limit_s


def assert_usable(envs, seed=5):
    """A reset brings all back, and what follows belongs together."""
    observations, infos = envs.reset(seed=seed)
    assert observations[:, 1].tolist() == [seed + i for i in range(4)]
    assert infos["index"].tolist() == [0, 1, 2, 3]
    for step in (1, 2):
        actions = (ACTIONS + step) % 10
        observations, rewards, *_, infos = envs.step(actions)
        assert observations[:, 3].tolist() == [step] * 4
        assert observations[:, 4].tolist() == actions.tolist()
        assert rewards.tolist() == [1000 * i + 10 * step + actions[i] / 10 for i in range(4)]
        assert infos["action"].tolist() == actions.tolist()


def text_of(error):
    return "\n".join([str(error), *getattr(error, "__notes__", []), str(error.__cause__)])


# 1. The child settles in.


def test_workers_lead_groups_of_their_own_and_are_deaf_to_ctrl_c():
    with make() as envs:
        envs.reset(seed=1)
        where = envs.call("where")
        assert all(pid == group != os.getpgid(0) for pid, group in where)
        for pid, _ in where:
            os.kill(pid, signal.SIGINT)
        assert_usable(envs)


def test_global_generators_differ_between_workers_and_follow_from_the_callers():
    def drawn(seed):
        np.random.seed(seed)
        random.seed(seed)
        with make(count=3) as envs:
            return envs.call("draw")

    np_state, state = np.random.get_state(), random.getstate()
    try:
        from vecselect import processes

        processes._environments_made, made = 0, processes._environments_made
        first = drawn(1)
        processes._environments_made = 0
        again = drawn(1)
        processes._environments_made = made
        other = drawn(2)
    finally:
        np.random.set_state(np_state)
        random.setstate(state)
    assert first == again != other
    assert len({number for numbers in first for number in numbers}) == 6


class TorchEnv(DoEnv):
    """Loads something that seeds as torch does."""

    def __init__(self, index=0):
        super().__init__(index)
        seeds = self.seeds = []
        if multiprocessing.parent_process():
            sys.modules["torch"] = types.SimpleNamespace(manual_seed=seeds.append)


def test_torch_is_seeded_where_an_environment_has_loaded_it():
    with make(TorchEnv) as envs:
        seeds = [seed for (seed,) in envs.get_attr("seeds")]
    assert len(set(seeds)) == 4


PROGRAM = """
import sys, time
from tests.test_async import ZEROS, make, pids, tell
from vecselect import auto_make_vec

if __name__ == "__main__":
    context, stuck, folder = sys.argv[1:]
    envs = make(note=folder, options={"context": context})
    envs.reset(seed=1)
    print(*pids(envs), flush=True)
    if stuck == "True":
        tell(envs, "step", "sleep")
        envs.step_async(ZEROS)
    time.sleep(60)
"""


@pytest.mark.parametrize("context", ["forkserver", "spawn", "fork"])
@pytest.mark.parametrize("stuck", [False, True])
def test_workers_close_and_end_when_the_program_is_killed(tmp_path, context, stuck):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, path, context, str(stuck), tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    workers = [int(pid) for pid in program.stdout.readline().split()]
    assert len(workers) == 4
    time.sleep(0.3)
    (tmp_path / "closed 0").unlink(missing_ok=True)  # that of the one Gymnasium builds first
    program.kill()
    assert_gone(workers, 5.0)
    _, errors = program.communicate()
    assert errors == ""
    expected = [0, 1, 3] if stuck else [0, 1, 2, 3]
    assert sorted(int(p.name[-1]) for p in tmp_path.glob("closed *")) == expected


# 2. and 6. Exceptions arrive, and nothing ends with them.


@pytest.mark.parametrize("shared_memory", [True, False])
def test_every_exception_arrives_and_a_reset_works_again(shared_memory):
    with make(options={"shared_memory": shared_memory}) as envs:
        before = pids(envs)
        for name, (_, kind, words) in ERRORS.items():
            for method in ("step", "reset"):
                envs.reset(seed=7)
                tell(envs, method, name)
                with within(REPORTED_S), pytest.raises(kind) as caught:
                    envs.step(ZEROS) if method == "step" else envs.reset()
                text = text_of(caught.value)
                assert words in text
                assert "Traceback" in text and "test_async.py" in text
                if kind is WorkerError or hasattr(caught.value, "__notes__"):
                    assert "sub-environment 2" in text.lower() and f"in {method}" in text
                    assert "last seeded with 9" in text
                tell(envs, "nothing", None)
                assert_usable(envs)
        assert pids(envs) == before


def test_types_and_arguments_are_kept():
    with make() as envs:
        for name in ("runtime", "key", "unicode"):
            with pytest.raises(ERRORS[name][1]) as caught:
                envs.call("do", name)
            assert caught.value.args == ERRORS[name][0]().args


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("autoreset_mode", ["NextStep", "SameStep"])
def test_a_mistaken_name_leaves_every_episode_where_it_is(shared_memory, autoreset_mode):
    """Also where an autoreset is due, which only the worker that failed knew."""
    options = {"shared_memory": shared_memory, "autoreset_mode": autoreset_mode}
    oracle = SyncVectorEnv(
        [functools.partial(DoEnv, i) for i in range(4)], autoreset_mode=autoreset_mode
    )
    mask = np.array([True, False, False, True])
    with make(options=options) as envs:
        before = pids(envs)
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for step in range(14):
            for mistake in (
                lambda: envs.get_attr("no_such_name"),
                lambda: envs.call("step", 1),
                lambda: envs.call("do", "unpicklable"),
                lambda: envs.set_attr("note", [threading.Lock()] * 4),
            ):
                with pytest.raises((AttributeError, ValueError, TypeError, WorkerError)):
                    mistake()
            assert_same(envs.step(ACTIONS), oracle.step(ACTIONS), ordered=False)
            if step % 5 == 3:
                for vector in (envs, oracle):
                    masked = vector.reset(seed=step, options={"reset_mask": mask})
                    assert masked[0][:, 1].tolist()[0] == step
        assert pids(envs) == before
    oracle.close()


def test_a_reset_that_was_asked_for_replaces_the_one_that_is_due():
    """Without shared memory Gymnasium's worker does both."""
    for shared_memory in (True, False):
        with make(options={"shared_memory": shared_memory}) as envs:
            envs.reset(seed=1)
            for _ in range(3):
                result = envs.step(ZEROS)
            assert (result[2] | result[3]).tolist() == [True, False, False, False]
            assert_usable(envs)


def test_a_failure_is_not_kept_waiting_for_a_stuck_worker():
    envs = make()
    envs.reset(seed=1)
    tell(envs, "step", "sleep", 0)
    tell(envs, "step", "key", 3)
    with within(REPORTED_S), pytest.raises(KeyError):
        envs.step(ZEROS)
    everyone = [process.pid for process in envs.unwrapped.processes]
    with within(CLOSED_S):
        envs.close(timeout=0.1)
    assert_gone(everyone, 0.5)


def test_episodes_that_ended_are_not_stepped_without_autoreset():
    with make(options={"autoreset_mode": "Disabled"}) as envs:
        envs.reset(seed=1)
        for _ in range(3):
            result = envs.step(ZEROS)
        with pytest.raises(AssertionError, match=r"\[0\] have ended"):
            envs.step(ZEROS)
        envs.reset(options={"reset_mask": result[2] | result[3]})
        assert envs.step(ZEROS)[0][:, 3].tolist() == [1, 4, 4, 4]


# 3. What is returned is what the space says.


class Returns(gym.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, index, space=None, bad=None, part=0):
        self.observation_space = space or spaces.Box(-10, 10, (3,), np.float32)
        self.index, self.bad, self.part = index, bad, part
        self.steps = 0

    def observation(self):
        return np.full(self.observation_space.shape, self.steps, self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.observation(), {}

    def step(self, action):
        self.steps += 1
        result = [self.observation(), 1.0, False, False, {}]
        if self.steps == 2 and self.index == 1:
            result[self.part] = self.bad
        return tuple(result)


INTEGERS = spaces.Box(-10, 10, (3,), np.int64)
BYTES = spaces.Box(0, 255, (3,), np.uint8)
NESTED = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,), np.float32)})
WRONG = {
    "shape of one": (None, np.zeros(1, np.float32)),
    "scalar": (None, np.float32(1)),
    "none": (None, None),
    "axis more": (None, np.zeros((1, 3), np.float32)),
    "float into int": (INTEGERS, np.array([1.9, 2, 3])),
    "nan into int": (INTEGERS, np.full(3, np.nan)),
    "too large for uint8": (BYTES, np.array([300, -1, 256])),
    "list too large for uint8": (BYTES, [300, 1, 2]),
}


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("name", WRONG)
def test_observations_that_do_not_fit_are_errors(name, shared_memory):
    space, bad = WRONG[name]
    with make(Returns, 2, {"shared_memory": shared_memory}, space=space, bad=bad) as envs:
        envs.reset()
        envs.step(ZEROS[:2])
        with pytest.raises((ValueError, TypeError), match="Sub-environment 1 returned an obs"):
            envs.step(ZEROS[:2])
        envs.reset()
        assert (envs.step(ZEROS[:2])[0] == 1).all()


def test_parts_that_do_not_fit_are_named():
    class Nested(Returns):
        def observation(self):
            return {"a": 1, "b": np.zeros(2, np.float32)}

    bad = {"a": 1, "b": np.zeros(1, np.float32)}
    with make(Nested, 2, space=NESTED, bad=bad) as envs:
        envs.reset()
        envs.step(ZEROS[:2])
        with pytest.raises(ValueError, match=r"observation\['b'\] of shape \(1,\)"):
            envs.step(ZEROS[:2])


@pytest.mark.parametrize(
    ("part", "bad", "accepted"),
    [(1, np.array([7.0]), 7.0), (1, np.zeros(2), None), (2, np.array([True]), True), (3, 1, True)],
)
def test_rewards_and_flags_are_one_number(part, bad, accepted):
    with make(Returns, 2, part=part, bad=bad) as envs:
        envs.reset()
        envs.step(ZEROS[:2])
        if accepted is None:
            with pytest.raises(ValueError, match="not one number"):
                envs.step(ZEROS[:2])
        else:
            result = envs.step(ZEROS[:2])
            assert result[part][1] == accepted
            assert [one.shape for one in result[1:4]] == [(2,)] * 3


def test_attributes_are_those_of_the_environment_itself():
    with auto_make_vec("CartPole-v1", 2, mode="async") as envs:
        envs.reset(seed=3)
        assert envs.get_attr("spec") == (gym.make("CartPole-v1").spec,) * 2
        envs.set_attr("gravity", [1.0, 2.0])
        assert [env.gravity for env in envs.get_attr("unwrapped")] == [1.0, 2.0]
        assert envs.get_attr("np_random_seed") == (3, 4)
    with make() as envs:
        envs.set_attr("brand_new", 1)  # on the environment, not on something around it
        assert envs.call("__getattribute__", "brand_new") == (1,) * 4


# 4. Deaths.


@pytest.mark.parametrize("name", DEATHS)
@pytest.mark.parametrize("method", ["step", "reset", "call"])
def test_a_death_is_reported_at_once_though_another_worker_is_stuck(name, method):
    envs = make()
    envs.reset(seed=1)
    everyone = pids(envs)
    tell(envs, method, "sleep", 0)
    tell(envs, method, name)
    uses = {
        "step": lambda: envs.step(ZEROS),
        "reset": envs.reset,
        "call": lambda: envs.call("maybe", "call"),
    }
    with within(REPORTED_S), pytest.raises(WorkerDied, match=DEATHS[name][1]) as caught:
        uses[method]()
    assert f"sub-environment 2 (pid {everyone[2]})" in str(caught.value)
    for use in uses.values():
        with within(REPORTED_S), pytest.raises(WorkerDied, match="make a new one"):
            use()
    with within(CLOSED_S):
        envs.close(timeout=0.1)
    assert_gone(everyone, 0.5)


def test_a_worker_killed_while_idle_is_reported():
    envs = make()
    envs.reset(seed=1)
    everyone = pids(envs)
    os.kill(everyone[1], signal.SIGKILL)
    assert_gone(everyone[1:2])
    for use in (lambda: envs.step(ZEROS), envs.reset, lambda: envs.get_attr("label")):
        with within(REPORTED_S), pytest.raises(WorkerDied, match="SIGKILL"):
            use()
    envs.close()
    assert_gone(everyone, 0.5)


# Calls that take too long, or are interrupted.


def test_a_wait_that_ran_out_may_be_repeated_or_left():
    with make() as envs:
        envs.reset(seed=1)
        tell(envs, "step", "doze")
        for _ in range(2):
            envs.step_async(ZEROS)
            with pytest.raises(multiprocessing.TimeoutError):
                envs.step_wait(timeout=0.05)
            assert envs.unwrapped._state is AsyncState.DEFAULT
        assert envs.step_wait(timeout=GRACE_S)[0][:, 3].tolist() == [2] * 4
        envs.step_async(ZEROS)
        with pytest.raises(multiprocessing.TimeoutError):
            envs.step_wait(timeout=0.01)
        tell(envs, "nothing", None)
        assert_usable(envs)
        with pytest.raises(NoAsyncCallError):
            envs.step_wait()
        envs.step_async(ZEROS)
        with pytest.raises(AlreadyPendingCallError):
            envs.reset()
        envs.step_wait()


def test_time_limits_are_errors_that_name_the_worker():
    options = {"step_timeout_s": 0.3}
    envs = make(options=options)
    envs.reset(seed=1)
    tell(envs, "step", "sleep")
    with within(REPORTED_S), pytest.raises(StepTimeout, match=r"sub-environment 2 .*step_timeout"):
        envs.step(ZEROS)
    envs.close(timeout=0.1)
    with within(GRACE_S), pytest.raises(StepTimeout, match=r"sub-environment 2 .*start_timeout"):
        make(options={"start_timeout_s": 6.0}, construct="sleep")
    with pytest.raises(ModeUnavailable, match="on_worker_death"):
        make(options={"on_worker_death": "restart"})


def test_interrupted_calls_leave_nothing_stale():
    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    chance, interrupts = random.Random(1), 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with make() as envs:
            for attempt in range(80):
                try:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 4e-3))
                        for step in range(1000):
                            envs.step(ZEROS)
                            if step % 3 == 0:
                                envs.reset(seed=step)
                                envs.get_attr("label")
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    interrupts += 1
                assert_usable(envs, seed=attempt)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 60


# 5. Closing.


def bring_into(envs, state):
    envs.reset(seed=1)
    victim = pids(envs)[2]
    if state in ("pending", "timed out"):
        tell(envs, "step", "sleep")
        envs.step_async(ZEROS)
    if state == "timed out":
        with pytest.raises(multiprocessing.TimeoutError):
            envs.step_wait(timeout=0.05)
    if state == "dead":
        os.kill(victim, signal.SIGKILL)
    if state == "stopped":
        os.kill(victim, signal.SIGSTOP)
    if state == "close hangs":
        tell(envs, "close", "sleep")
    if state == "close raises":
        tell(envs, "close", "key")
    if state == "owns a process":
        envs.call("do", "popen")


STATES = [
    "idle",
    "pending",
    "timed out",
    "dead",
    "stopped",
    "close hangs",
    "close raises",
    "owns a process",
]


@pytest.mark.parametrize("options", [{}, {"timeout": 0.2}, {"terminate": True}])
@pytest.mark.parametrize("state", STATES)
def test_closing_ends_everything_in_every_state(state, options):
    with make(count=1):  # what multiprocessing keeps open is open from here on
        pass
    gc.collect()
    descriptors = psutil.Process().num_fds()
    envs = make()
    everyone = pids(envs)
    bring_into(envs, state)
    everyone += [c.pid for c in psutil.Process().children(recursive=True) if c.name() == "sleep"]
    assert (len(everyone) == 5) == (state == "owns a process")
    with within(CLOSED_S):
        envs.close(**options)
    assert_gone(everyone, 0.5)
    with within(0.1):
        envs.close()
        envs.unwrapped.close()
    with pytest.raises(ClosedEnvironmentError):
        envs.unwrapped.reset()
    assert multiprocessing.active_children() == []
    assert not [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE]
    assert psutil.Process().num_fds() <= descriptors


def test_one_that_was_not_closed_closes_its_environments_when_it_is_collected(tmp_path):
    envs = make(note=str(tmp_path))
    (tmp_path / "closed 0").unlink()
    everyone = pids(envs)
    del envs
    gc.collect()
    assert_gone(everyone, 0.5)
    assert len(list(tmp_path.glob("closed *"))) == 4


@pytest.mark.parametrize("context", ["forkserver", "spawn", "fork"])
def test_a_factory_that_fails_leaves_nothing(context):
    builds = DoEnv.builds
    for name in ("runtime", "key"):
        with within(GRACE_S), pytest.raises(ERRORS[name][1]) as caught:
            make(options={"context": context}, construct=name)
        if hasattr(caught.value, "__notes__"):
            assert "sub-environment 2 in construct" in text_of(caught.value)
        assert caught.value.args == ERRORS[name][0]().args
    with within(GRACE_S), pytest.raises(WorkerDied, match=r"sub-environment 2 .* code 3"):
        make(options={"context": context}, construct="exit")
    assert multiprocessing.active_children() == []
    assert DoEnv.builds == builds + 3


class Unloadable:
    """A factory that breaks where it is unpacked."""

    def __init__(self, index):
        self.index = index

    def __reduce__(self):
        return int, ("no number",)

    def __call__(self):
        return DoEnv(self.index)


def test_a_factory_that_cannot_be_unpacked_says_so():
    env_fns = [functools.partial(DoEnv, 0), Unloadable(1)]
    with within(GRACE_S), pytest.raises(ValueError, match="no number"):
        auto_make_vec(env_fns, mode="async")


SPEAKING = """
from tests.test_async import ERRORS, ZEROS, make, tell

if __name__ == "__main__":
    envs = make()
    for name in ERRORS:
        envs.reset(seed=1)
        tell(envs, "step", name)
        try:
            envs.step(ZEROS)
        except BaseException:
            pass
        else:
            raise SystemExit("nothing was raised")
        tell(envs, "close", "key")
    envs.close()
"""


def test_nothing_is_printed_but_what_nobody_else_can_tell(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(SPEAKING)
    ended = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "vecselect: sub-environment 2 raised KeyError in close(): 'missing'\n"


# Around it.


def shifting_worker(index, env_fn, pipe, *rest):
    """A worker of the user's: Gymnasium's, around an environment of its own."""

    def wrapped():
        return gym.wrappers.TransformReward(env_fn(), lambda reward: reward + 5)

    _async_worker(index, wrapped, pipe, *rest)


def test_a_worker_of_the_users_is_guarded_too():
    oracle = SyncVectorEnv([functools.partial(DoEnv, i) for i in range(4)])
    envs = make(options={"worker": shifting_worker})
    assert envs.unwrapped.worker is shifting_worker
    for vector in (envs, oracle):
        vector.reset(seed=1)
    assert (envs.step(ACTIONS)[1] == oracle.step(ACTIONS)[1] + 5).all()
    everyone = pids(envs)
    with within(REPORTED_S), pytest.raises(WorkerError, match="left and right"):
        envs.call("do", "two arguments")
    assert_gone(everyone[2:3])
    with within(REPORTED_S), pytest.raises(WorkerDied, match="make a new one"):
        envs.reset()
    with within(CLOSED_S):
        envs.close()
    assert_gone(everyone, 0.5)
    oracle.close()


def test_environments_may_start_processes():
    with make() as envs:
        envs.call("do", "fork")
        assert_usable(envs)
    with make(options={"daemon": True}) as envs, pytest.raises(AssertionError, match="daemonic"):
        envs.call("do", "fork")


def test_results_are_those_of_the_loop_with_every_transport():
    for options in ({"shared_memory": False}, {"context": "fork"}, {"copy": False}):
        oracle = SyncVectorEnv([functools.partial(zoo.InfoEnv, i) for i in range(3)])
        with make(zoo.InfoEnv, 3, options) as envs:
            assert_same_run(envs, oracle, 20)


def test_a_forked_process_cannot_use_it_and_harms_nothing():
    with make() as envs:
        envs.reset(seed=1)
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(VecselectError):
                signal.alarm(5)
                envs.step(ZEROS)
                code = 2
            del envs
            gc.collect()
            os._exit(code - 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for refused in (copy.deepcopy, pickle.dumps):
            with pytest.raises(VecselectError, match="cannot be copied"):
                refused(envs.unwrapped)
        assert_usable(envs)

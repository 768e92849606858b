"""What is special about lanes in threads; what they have in common with others is the contract."""

import gc
import os
import signal
import sys
import textwrap
import threading
import time
import warnings
import weakref

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests import zoo
from tests.processes import run_program, until
from vecselect import ModeUnavailable, VecselectWarning, auto_make_vec, recommend, sweep
from vecselect.measure.probe import may_draw
from vecselect.testing.contract import assert_same_run

LONG_S = 60.0


class Told(zoo.EchoEnv):
    """Does in a step what its action says: 9 waits until it is let go, 8 raises."""

    def __init__(self, index=0):
        super().__init__(index)
        self.gate = threading.Event()
        self.waits = threading.Event()
        self.threads = []
        self.closed = False

    def step(self, action):
        self.threads.append(threading.get_ident())
        if action == 9:
            self.waits.set()
            assert self.gate.wait(LONG_S)
        if action == 8:
            raise Unpicklable(threading.Lock())
        return super().step(action)

    def close(self):
        self.closed = True
        self.threads.append(threading.get_ident())


class Unpicklable(Exception):
    pass


def told(count=4, mode="thread", **options):
    envs = [Told(index) for index in range(count)]
    made = auto_make_vec([lambda env=env: env for env in envs], mode=mode, vector_kwargs=options)
    made.reset(seed=1)
    return made, envs


def actions(*deeds, count=4):
    batch = np.ones(count, np.int64)
    for row, deed in deeds:
        batch[row] = deed
    return batch


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    gc.collect()
    assert until(
        lambda: not any(one.name.startswith("vecselect-thread") for one in threading.enumerate()),
        LONG_S,
    )


def assert_goes_on(made):
    """A reset brings everything back, and the next batch is the one that was asked for."""
    made.reset(seed=5)
    batch = np.arange(made.num_envs) % 6
    assert made.step(batch)[0][:, 4].tolist() == batch.tolist()


def test_each_lane_is_one_thread_from_its_building_to_its_closing():
    built = []

    class Noted(Told):
        def __init__(self, index):
            super().__init__(index)
            built.append(index)
            self.threads.append(threading.get_ident())

    envs = []

    def make(index):
        envs.append(Noted(index))
        return envs[-1]

    with auto_make_vec([lambda i=i: make(i) for i in range(5)], mode="thread:2") as made:
        assert made.mode == "thread:2"
        made.reset(seed=1)
        made.step(np.ones(5, np.int64))
    assert built == [0, 1, 2, 3, 4]
    lanes = [set(env.threads) for env in envs]
    assert all(len(lane) == 1 for lane in lanes)
    assert lanes[0] == {threading.get_ident()}
    assert lanes[1] == lanes[2] != lanes[3] == lanes[4]


def test_there_is_a_lane_for_each_sub_environment_by_default():
    for count, mode, exact in ((6, "thread", 5), (6, "thread:3", 3), (1, "thread", 0)):
        made, _ = told(count, mode)
        with made:
            assert made.mode == f"thread:{exact}"


def test_waiting_overlaps():
    barrier = threading.Barrier(8)

    class Meeting(zoo.EchoEnv):
        def step(self, action):
            barrier.wait(LONG_S)  # returns only when all of them are in their steps
            return super().step(action)

    env_fns = [lambda i=i: Meeting(i) for i in range(8)]
    with auto_make_vec(env_fns, mode="thread") as made:
        made.reset(seed=1)
        for _ in range(3):
            assert made.step(np.full(8, 2))[0][:, 0].tolist() == list(range(8))


def test_values_and_exceptions_are_the_objects_themselves():
    made, envs = told()
    with made:
        assert made.get_attr("gate") == tuple(env.gate for env in envs)
        lock = threading.Lock()
        made.set_attr("lock", lock)
        assert [env.lock for env in envs] == [lock] * 4
        assert made.call("get_wrapper_attr", "lock", indices=[2]) == (lock,)
        with pytest.raises(Unpicklable) as caught:
            made.step(actions((2, 8)))
        assert isinstance(caught.value.args[0], type(lock))
        if sys.version_info >= (3, 11):
            assert "sub-environment 2 in step, step 1" in caught.value.__notes__[0]
        assert_goes_on(made)


@pytest.mark.full
def test_closing_does_not_wait_for_ever_and_says_so():
    made, envs = told()
    made.step_async(actions((1, 9), (3, 9)))
    assert envs[1].waits.wait(LONG_S)
    assert envs[3].waits.wait(LONG_S)
    start_s = time.monotonic()
    with pytest.warns(VecselectWarning, match=r"\[1, 3\] were still busy"):
        made.close()
    assert time.monotonic() - start_s < 5.0
    assert made.closed
    assert envs[0].closed and envs[2].closed
    for env in envs:
        env.gate.set()
    assert until(lambda: all(env.closed for env in envs), LONG_S)


def test_one_that_is_dropped_is_closed():
    made, envs = told()
    gone = weakref.ref(made.unwrapped)
    del made
    gc.collect()
    assert gone() is None
    assert all(env.closed for env in envs)


def test_an_interrupted_step_is_taken_in_before_the_next_command():
    made, envs = told()
    with made:

        def interrupt():
            assert envs[2].waits.wait(LONG_S)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
            envs[2].gate.set()

        meddler = threading.Thread(target=interrupt)
        meddler.start()
        with pytest.raises(KeyboardInterrupt):
            made.step(actions((2, 9)))
        assert not envs[2].gate.is_set()
        assert_goes_on(made)
        assert envs[2].gate.is_set()  # the reset waited for the step
        meddler.join(LONG_S)


@pytest.mark.full
def test_the_program_can_end_whatever_an_environment_does():
    program = """
        import threading
        import numpy as np
        from tests.zoo import EchoEnv
        from vecselect import auto_make_vec
        class Stuck(EchoEnv):
            def step(self, action):
                started.set()
                threading.Event().wait()
        started = threading.Event()
        envs = auto_make_vec([EchoEnv, Stuck], mode="thread")
        envs.reset(seed=1)
        envs.step_async(np.ones(2, np.int64))
        started.wait()
        print("ends")
    """
    done = run_program("-c", textwrap.dedent(program))
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
    assert "threads of sub-environments [1] were still busy" in done.stderr


def test_hundreds_of_them_run_as_the_loop_does():
    from gymnasium.vector import SyncVectorEnv

    env_fns = [lambda i=i: zoo.InfoEnv(i % 200) for i in range(300)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = auto_make_vec(env_fns, mode="thread")
    with made:
        assert made.mode == "thread:255"
        assert_same_run(made, SyncVectorEnv(env_fns), 6)


@pytest.mark.parametrize(
    ("id", "options", "why"),
    [
        ("CarRacing-v3", {}, "its observations are drawn"),
        (lambda: gym.make("CarRacing-v3"), {}, "its observations are drawn"),
        ("CartPole-v1", {"render_mode": "rgb_array"}, "with render_mode='rgb_array' it draws"),
        (
            lambda: gym.make("LunarLander-v3", render_mode="rgb_array"),
            {},
            "with render_mode='rgb_array' it draws",
        ),
    ],
)
def test_what_is_known_to_draw_into_the_frames_of_others_is_refused(id, options, why):
    before = threading.active_count()
    with pytest.raises(ModeUnavailable, match=f"cannot run .*{why} by pygame"):
        auto_make_vec(id, 3, mode="thread", **options)
    assert threading.active_count() == before


class Waiting(zoo.EchoEnv):
    """Waits in every step, for which threads serve best, and may look as if it drew."""

    def __init__(self, render_mode=None, shape=(5,)):
        super().__init__()
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def _observation(self, action):
        return np.zeros(self.observation_space.shape, np.uint8)

    def step(self, action):
        time.sleep(0.002)
        return super().step(action)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, None),
        (
            {"render_mode": "rgb_array"},
            "it renders (render_mode='rgb_array'), and drawing in two threads",
        ),
        ({"shape": (8, 8, 3)}, "it returns images, and drawing in two threads"),
    ],
)
def test_threads_are_not_chosen_for_what_may_draw(options, why):
    plan = recommend(lambda: Waiting(**options), 6, use_store=False)
    skipped = {one.mode.partition(":")[0]: one.skipped for one in plan.candidates}["thread"]
    assert (skipped is None) == (why is None)
    assert why is None or skipped.startswith(why)
    assert why is None or not plan.mode.startswith("thread")
    with auto_make_vec(lambda: Waiting(**options), 2, mode="thread") as envs:
        envs.reset(seed=1)


@pytest.mark.full
def test_a_sweep_leaves_threads_out_for_what_may_draw():
    found = sweep(lambda: Waiting("rgb_array"), 2, budget_s=2)
    assert not [mode for mode in found.modes if mode.startswith("thread")]
    named = sweep(lambda: Waiting("rgb_array"), 2, modes=["thread:1"], budget_s=2)
    assert named.modes == ("thread:1",)


@pytest.mark.parametrize(
    ("space", "image"),
    [
        (spaces.Box(0, 255, (84, 84), np.uint8), True),
        (spaces.Box(0, 1, (3, 84, 84), np.float32), True),
        (spaces.Box(-1, 1, (3, 4), np.float32), False),
        (spaces.Dict(a=spaces.Tuple([spaces.Box(0, 255, (8, 8, 3), np.uint8)])), True),
        (spaces.Discrete(3), False),
    ],
)
def test_images_are_told_by_their_space(space, image):
    assert (may_draw(space, None) == "returns images") == image

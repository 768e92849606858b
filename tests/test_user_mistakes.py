"""What a user's mistake ends in: an error that says what to do, never an exit or our internals."""

import functools
import signal
import sys
import traceback

import numpy as np
import pytest

from tests.zoo import ActingEnv
from vecselect import WorkerError, auto_make_vec

MODES = ("sync", "pool:1", "thread:1")


def leave():
    sys.exit(3)


def fail_for_a_reason():
    try:
        raise LookupError("no such joint")
    except LookupError as error:
        raise ValueError("cannot step") from error


class Tensor:
    """An array of another library, such as a tensor of torch: so are its elements."""

    def __init__(self, values):
        self.values = np.array(values)

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return map(Tensor, self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values


def used(env_fns, mode, actions=(0, 0)):
    with auto_make_vec(env_fns, mode=mode) as envs:
        envs.reset(seed=1)
        return envs.step(np.array(actions))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase", ["construct", "reset", "step"])
def test_a_sub_environment_that_exits_does_not_end_the_program(mode, phase, row):
    env_fns = [ActingEnv] * 2
    env_fns[row] = functools.partial(ActingEnv, phase, leave)
    with pytest.raises(WorkerError) as caught:
        used(env_fns, mode)
    if not (mode == "pool:1" and row and phase != "construct"):  # there it ends its worker
        assert "sys.exit(3)" in str(caught.value)


def test_a_signal_s_handler_ends_the_program_also_amid_a_step():
    def stop(number, frame):
        sys.exit(7)

    before = signal.signal(signal.SIGUSR1, stop)
    act = functools.partial(signal.raise_signal, signal.SIGUSR1)
    try:
        for mode in ("sync", "pool:0"):
            with pytest.raises(SystemExit, match="7"):
                used([functools.partial(ActingEnv, "step", act)] * 2, mode)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("mode", ["pool:0", "pool:1", "thread:1"])
def test_what_a_sub_environment_raises_is_shown_without_internals(mode, row):
    env_fns = [ActingEnv] * 2
    env_fns[row] = functools.partial(ActingEnv, "step", fail_for_a_reason)
    with pytest.raises(ValueError, match="cannot step") as caught:
        used(env_fns, mode)
    shown = "".join(traceback.format_exception(caught.value))
    assert "LaneFailure" not in shown
    assert "During handling" not in shown
    assert "no such joint" in shown


@pytest.mark.parametrize("mode", [*MODES, "async", "pool:2"])
def test_tensors_are_taken_as_actions(mode):
    with auto_make_vec(ActingEnv, 3, mode=mode) as envs:
        envs.reset(seed=1)
        observations, *_ = envs.step(Tensor([2, 0, 1]))
        assert observations.ravel().tolist() == [2, 0, 1]

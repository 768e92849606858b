"""As much of torch as a learner uses, and learners that may use it."""

import contextlib
import time
import types

import numpy as np
from gymnasium import spaces

from vecselect.measure.learner import read_learner

NUM_ENVS = 3
ACTIONS = spaces.Discrete(4)


class FakeTorch(types.ModuleType):
    """As much of torch as the stand-in uses; notes what it was given."""

    def __init__(self, threads=4):
        super().__init__("torch")
        self.threads = threads
        self.threads_set, self.layers, self.inputs, self.drawn_from = [], [], [], []
        self.built, self.grad, self.pass_s = 0, True, 0.0
        outer = self

        class Linear:
            def __init__(self, inputs, outputs):
                outer.layers.append((inputs, outputs))

        class Sequential:
            def __init__(self, *layers):
                outer.built += 1
                self.outputs = outer.layers[-1][1]

            def __call__(self, features):
                assert not outer.grad
                outer.inputs.append(features)
                end_s = time.thread_time() + outer.pass_s
                while time.thread_time() < end_s:
                    pass
                return np.zeros((len(features), self.outputs), np.float32)

        class Distribution:
            def __init__(self, outputs=None, deviation=None, *, logits=None):
                self.outputs = logits if outputs is None else outputs
                assert deviation is None or deviation.shape == self.outputs.shape[1:]
                outer.drawn_from.append(type(self).__name__)

            def sample(self):
                return Drawn()

            def log_prob(self, actions):
                assert isinstance(actions, Drawn)

        class Drawn:
            def numpy(self):
                return np.zeros(1)

        kinds = {name: type(name, (Distribution,), {}) for name in ("Categorical", "Normal")}
        self.distributions = types.SimpleNamespace(**kinds)
        self.ones = np.ones
        self.nn = types.SimpleNamespace(Linear=Linear, Tanh=object, Sequential=Sequential)

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.threads = threads
        self.threads_set.append(threads)

    @contextlib.contextmanager
    def no_grad(self):
        self.grad = False
        try:
            yield
        finally:
            self.grad = True

    @staticmethod
    def from_numpy(array):
        assert array.flags.writeable  # torch warns about others
        return array


def a_learner(given=None, num_envs=NUM_ENVS, action_space=ACTIONS):
    return read_learner(given, num_envs, action_space)


class FakeLibrary:
    """A numerical library, as far as its threads go."""

    threads = 8

    @staticmethod
    def get():
        return FakeLibrary.threads

    @staticmethod
    def set(threads):
        FakeLibrary.threads = threads

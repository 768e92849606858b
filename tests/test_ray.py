"""Mode `ray` on three nodes, all on this machine: the contract in fewer actors, deaths, hangs."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests import zoo
from tests.faults.faulty import actions, make, within
from tests.processes import ROOT, gone, until
from vecselect import ModeUnavailable, RequestError, VecselectWarning, WorkerDied, auto_make_vec
from vecselect.errors import StepTimeout
from vecselect.testing.contract import (
    VectorEnvContract,
    assert_same,
    assert_same_run,
    echoes,
    masked_reset,
    samples,
)

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings(  # Ray's own affairs
        "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"
    ),
    pytest.mark.usefixtures("cluster"),
]


# A killed node refuses the connection, so it is known to be dead after 10 checks: some 5 s. A busy
# one is not taken for dead unless it leaves 10 in a row unanswered for 30 s each.
HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 10,
    "health_check_timeout_ms": 30_000,
}
NOTICED_LIMIT_S = 60.0
"""How long the cluster may take to find out that a node has come or gone."""

HANG_S = 30.0
"""What takes longer hangs, on however busy a machine: a lane that is stuck is so for an hour."""


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": HEALTH_CHECKS}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=1)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    gc.collect()


class Sync(VectorEnvContract):
    mode = "ray:2"


class Beside(VectorEnvContract):
    """An actor, and a worker process beside it."""

    mode = "ray:1"
    vector_kwargs = {"lane_mode": "pool:1", "num_cpus": 1}


@pytest.mark.parametrize("lanes", [Sync, Beside])
@pytest.mark.parametrize(
    "name",
    [
        "test_options_and_a_mask_reach_the_sub_environments",
        "test_call_get_attr_and_set_attr_reach_every_sub_environment",
        "test_some_sub_environments_are_reached_in_the_order_of_the_indices",
        "test_some_are_set_or_none_of_them",
        "test_split_calls_do_what_the_joined_ones_do",
    ],
)
def test_calls(lanes, name):
    getattr(lanes(), name)()


@pytest.mark.parametrize(
    "name",
    [
        "test_returned_arrays_never_change_later",
        "test_different_bounds_batch_under_observation_mode_different",
        "test_wrappers_of_single_environments_are_applied",
        "test_the_spec_makes_the_same_environments_again",
    ],
)
def test_results(name):
    getattr(Sync(), name)()


@pytest.mark.parametrize("id", ["FrozenLake-v1", "HalfCheetah-v5"])
def test_stock_environments(id):
    Sync().test_stock_environments_equal_the_loop_in_every_autoreset_mode(id)


@pytest.mark.parametrize("lanes", [Sync, Beside])
@pytest.mark.parametrize("autoreset_mode", AutoresetMode)
def test_infos_in_every_autoreset_mode(autoreset_mode, lanes):
    envs, oracle = lanes().pair(echoes(5, zoo.InfoEnv), autoreset_mode=autoreset_mode)
    with envs:
        reset = masked_reset if autoreset_mode is AutoresetMode.DISABLED else None
        assert_same_run(envs, oracle, 40, reset=reset)


SPACES = {
    "everything": spaces.Dict({name.replace(" ", "_"): zoo.SPACES[name] for name in zoo.SPACES}),
    **{name: zoo.SPACES[name] for name in ("text", "graph", "tuple", "discrete")},
}


@pytest.mark.parametrize(
    ("lanes", "copy", "name"),
    [*((Sync, True, name) for name in SPACES), (Sync, False, "everything")]
    + [(Beside, copy, "everything") for copy in (True, False)],
)
def test_observations_of_any_space(lanes, copy, name):
    envs, oracle = lanes().pair(samples(SPACES[name]), copy=copy)
    with envs:
        assert envs.observation_space == oracle.observation_space
        assert_same_run(envs, oracle, 12)


@pytest.mark.parametrize("name", zoo.ACTION_SPACES)
def test_actions_of_any_space(name):
    lanes = Beside() if name in ("box", "dict") else Sync()
    lanes.test_each_sub_environment_gets_its_action_as_the_loop_gives_it(name)


def test_environments_without_a_module_are_sent():
    class Local(gym.Env):
        observation_space = spaces.Box(0, 1, (2,), np.float32)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.random(2, dtype=np.float32), {"me": Fraction(1, 3)}

        def step(self, action):
            return self.np_random.random(2, dtype=np.float32), 1.0, False, False, {}

    with auto_make_vec(Local, 2, mode="ray:2") as envs:
        assert_same_run(envs, SyncVectorEnv([Local] * 2), 4)


def test_spaces_that_do_not_go_together_name_the_sub_environment():
    fns = samples(zoo.SPACES["discrete"], 2) + samples(zoo.SPACES["text"], 1)
    with pytest.raises(RuntimeError, match="Sub-environment 2 has the observation space Text"):
        auto_make_vec(fns, mode="ray:2")


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("ray:2", {"lane_mode": "async"}, "lane_mode is 'async'"),
        ("ray:2", {"address": "10.0.0.1:99"}, "leave the address out"),
        ("ray:2", {"context": "fork"}, "it takes no vector_kwargs context"),
        ("ray:2:sleep", {}, "ray"),
        ("pool:1", {"num_cpus": 2}, "it takes no vector_kwargs num_cpus"),
    ],
)
def test_what_cannot_be_is_refused(mode, options, words):
    with pytest.raises(RequestError, match=words):
        auto_make_vec("CartPole-v1", 4, mode=mode, vector_kwargs=options)


def test_buffers_have_actors_that_share_the_cpus():
    """In lockstep, and one by one, with the same bits as the loop."""
    with auto_make_vec(echoes(4), mode="ray:2", buffers=2) as envs:
        oracle = SyncVectorEnv(echoes(4))
        assert_same_run(envs, oracle, 6)
        free = ray.available_resources()["CPU"]
        assert free == ray.cluster_resources()["CPU"] - 2
        first, second = envs.buffers
        envs.reset(seed=3)
        expected = (oracle.reset(seed=3), oracle.step(np.array([1, 2, 3, 4])))[1]
        second.step_async(np.array([3, 4]))
        first.step_async(np.array([1, 2]))
        for half in (first, second):
            result = half.step_wait()
            for ours, theirs in zip(result[:4], expected[:4], strict=True):
                assert_same(ours, theirs[half.rows])


# Deaths, hangs and leftovers


def kill_node(node):
    """Ends all processes of a node at once, as when its machine loses power."""
    processes = [
        psutil.Process(one.process.pid) for ones in node.all_processes.values() for one in ones
    ]
    processes += [child for one in processes for child in one.children(recursive=True)]
    for process in processes:
        process.kill()


@pytest.fixture
def doomed(cluster):
    """A fourth node, which the test kills; the cluster has noticed that before the next test."""
    node = cluster.add_node(num_cpus=1, resources={"doomed": 1})
    there = ray.remote(num_cpus=0, resources={"doomed": 1})(lambda: True)
    assert ray.get(there.remote(), timeout=NOTICED_LIMIT_S)  # so whoever places actors knows it
    yield node
    cluster.remove_node(node, allow_graceful=False)
    noticed = {"NodeID": node.node_id, "Alive": False}
    assert until(
        lambda: any(noticed.items() <= one.items() for one in ray.nodes()), NOTICED_LIMIT_S
    )


def places(envs):
    return [worker.place for worker in envs.unwrapped._workers.each]


@contextlib.contextmanager
def closed_in_time(envs):
    """Inside it is used; it can be closed in time, whatever state it is in, and leaves no actor."""
    yield envs
    mine = places(envs)
    with within(HANG_S):
        envs.close()
    assert all(gone(place.pid, HANG_S) for place in mine)


def test_lanes_spread_over_the_nodes_and_return_the_same_bits(cluster):
    assert until(lambda: ray.available_resources().get("CPU") == 3, NOTICED_LIMIT_S)
    made = auto_make_vec(echoes(7), mode="ray", vector_kwargs={"address": cluster.address})
    with closed_in_time(made) as envs:
        assert len({place.node for place in places(envs)}) == 3
        assert_same_run(envs, SyncVectorEnv(echoes(7)), 10)
    assert ray.is_initialized()  # what was there before is left alone


def test_no_room_says_what_was_asked_for_and_leaves_nothing():
    with pytest.raises(ModeUnavailable, match="4 lanes ask for 4 CPU; the cluster has 3 CPU"):
        make("ray:4", options={"start_timeout_s": 2.0})
    options = {"start_timeout_s": 1.0, "resources": {"tpu": 2}}
    with pytest.raises(ModeUnavailable, match="ask for 1 CPU, 2 tpu; the cluster has 3 CPU, 0 tpu"):
        make("ray:1", options=options)
    make("ray:3").close()  # there is room for three again


def test_errors_arrive_as_they_were_also_while_another_lane_is_stuck(tmp_path):
    with closed_in_time(make("ray:2", note=tmp_path)) as envs:
        envs.reset(seed=1)
        with pytest.raises(KeyError, match="missing_key") as caught:
            envs.step(actions({2: "key"}))
        if sys.version_info >= (3, 11):
            where = "sub-environment 2 in step, step 1 of its episode"
            assert where in str(caught.value.__notes__)
        assert envs.reset(seed=5)[0][:, 1].tolist() == [5, 6, 7, 8]
        with within(HANG_S), pytest.raises(KeyError):
            envs.step(actions({0: "sleep", 2: "key"}))
    assert {path.name for path in tmp_path.iterdir()} == {"closed 2", "closed 3"}


def test_a_death_is_named_also_while_another_lane_is_stuck():
    named = r"Lane 1 \(node .*, pid .*sub-environments 2-3, has died"
    with closed_in_time(make("ray:2")) as envs:
        envs.reset(seed=1)
        for use in (lambda: envs.step(actions({0: "stop", 3: "sigkill"})), envs.reset):
            with within(HANG_S), pytest.raises(WorkerDied, match=named):
                use()


def test_a_deadline_and_a_replaced_lane():
    options = {"step_timeout_s": 2.0, "on_worker_death": "restart"}
    lost = [False, False, True, True]
    late = "Lane 1 .*has not answered within step_timeout_s=2"
    with make("ray:2", options=options) as envs:
        envs.reset(seed=1)
        envs.step(actions())
        with pytest.warns(VecselectWarning, match=late):
            observations, *_, truncated, infos = envs.step(actions({2: "sleep"}))
        assert truncated.tolist() == infos["worker_restarted"].tolist() == lost
        seeds = infos["restart_seed"][2:].tolist()
        assert not {1, 2, 3, 4}.intersection(seeds)
        assert observations[:, 1].tolist() == [1, 2, *seeds]
    with closed_in_time(make("ray:2", options={"step_timeout_s": 2.0})) as envs:
        envs.reset()
        with pytest.raises(StepTimeout, match=late):
            envs.step(actions({2: "sleep"}))


def test_a_node_that_dies_is_named_and_takes_no_lane_with_it_that_never_ran(doomed):
    options = {"num_cpus": 0.1, "resources": {"doomed": 0.5}}
    with make("ray:1", options=options) as envs:
        (place,) = places(envs)
        assert doomed.node_id.startswith(place.node.partition("/")[2])
        envs.reset(seed=1)
        kill_node(doomed)
        named = f"Lane 0 .node {place.node}, .*environments 0-3,"
        with within(HANG_S), pytest.raises(WorkerDied, match=named):
            envs.step(actions())
    # Ray hardly knows of it yet, and gives the node an actor, which dies before it has run.
    with make("ray:4", options={"num_cpus": 0.5}) as envs:
        envs.reset(seed=1)
        assert not any(doomed.node_id[:8] in place.node for place in places(envs))


def test_a_lane_whose_node_dies_goes_on_elsewhere(doomed):
    # The nodes have a CPU each, so one of four lanes runs on the node that is killed; the others
    # have room for it because a lane asks for half a CPU.
    options = {"num_cpus": 0.5, "on_worker_death": "restart"}
    with make("ray:4", options=options) as envs:
        envs.reset(seed=1)
        envs.step(actions())
        lost = [doomed.node_id[:8] in place.node for place in places(envs)]
        kill_node(doomed)
        with pytest.warns(VecselectWarning, match=f"Lane {lost.index(True)} .*died.*was replaced"):
            *_, truncated, infos = envs.step(actions())
        assert truncated.tolist() == infos["worker_restarted"].tolist() == lost
        assert not any(doomed.node_id[:8] in place.node for place in places(envs))
        envs.step(actions())


PROGRAM = """
    import sys
    from tests.faults.faulty import actions, make, pids

    envs = make("ray:2", options={"address": sys.argv[2] or None}, note=sys.argv[1])
    envs.reset(seed=1)
    print(*set(pids(envs)), flush=True)
    try:
        while True:
            envs.step(actions({0: "doze"}))
    except KeyboardInterrupt:
        print(envs.reset(seed=5)[0][:, 1].tolist(), flush=True)
"""


@contextlib.contextmanager
def running(folder, address=""):
    """A program that steps; its actors, and all of its processes."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    ) as program:
        actors = list(map(int, program.stdout.readline().split()))
        assert len(actors) == 2
        yield program, actors, psutil.Process(program.pid).children(recursive=True)


@pytest.mark.parametrize("own", [False, True], ids=["of the cluster", "of the Ray it started"])
def test_a_killed_program_leaves_no_actors(cluster, tmp_path, own):
    with running(tmp_path, "" if own else cluster.address) as (program, actors, family):
        assert own == ({child.pid for child in family} >= set(actors))
        program.kill()
    try:
        assert all(gone(pid, HANG_S) for pid in actors)
    finally:  # Ray's own daemons go too, but take a minute for it
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def test_ctrl_c_lets_go_on_and_leaving_closes_everything(tmp_path):
    with running(tmp_path) as (program, _, family):
        time.sleep(0.5)
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to all in the group
        assert program.stdout.readline() == "[5.0, 6.0, 7.0, 8.0]\n"
        assert program.wait(30) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"closed {row}" for row in range(4)}
    assert all(gone(child.pid, HANG_S) for child in family)

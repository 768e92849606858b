"""Mode `ray` on three nodes, all on this machine: deaths, hangs, leftovers, restarts."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from gymnasium.vector import SyncVectorEnv

from tests.processes import gone, until
from tests.ray_support import DIE, QUIET, RAISE, SLEEP, STOP, pids, told
from tests.zoo import EchoEnv
from vecselect import ModeUnavailable, VecselectWarning, WorkerDied, auto_make_vec
from vecselect.errors import StepTimeout
from vecselect.testing.contract import assert_same_run

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.full, *(pytest.mark.filterwarnings(text) for text in QUIET)]
ROOT = Path(__file__).parents[1]


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
    assert until(lambda: not alive(node), NOTICED_LIMIT_S)


def alive(node):
    return any(one["Alive"] for one in ray.nodes() if one["NodeID"] == node.node_id)


def actions(num_envs, **told):
    batch = np.ones(num_envs, np.int64)
    for name, action in told.items():
        batch[int(name[1:])] = action
    return batch


@contextlib.contextmanager
def closed_in_time(envs):
    """Inside it is used; it can be closed in time, whatever state it is in, and leaves no actor."""
    yield envs
    mine, start_s = pids(envs), time.monotonic()
    envs.close()
    assert time.monotonic() - start_s < HANG_S
    assert all(gone(pid, HANG_S) for pid in mine)


def test_lanes_spread_over_the_nodes_and_return_the_same_bits(cluster):
    fns = [EchoEnv] * 7
    made = auto_make_vec(fns, mode="ray", vector_kwargs={"address": cluster.address})
    with closed_in_time(made) as envs:
        assert len({handle.place.node for handle in envs.unwrapped._workers.each}) == 3
        assert_same_run(envs, SyncVectorEnv(fns), 10)
    assert ray.is_initialized()


def test_no_room_says_what_was_asked_for_and_leaves_nothing(cluster):
    with pytest.raises(ModeUnavailable, match="4 lanes ask for 4 CPU; the cluster has 3 CPU"):
        told(4, "ray:4", start_timeout_s=2.0)
    with pytest.raises(ModeUnavailable, match="ask for 1 CPU, 2 tpu; the cluster has 3 CPU, 0 tpu"):
        told(4, "ray:1", start_timeout_s=1.0, resources={"tpu": 2})
    told(3, "ray:3").close()  # there is room for three again


def test_errors_arrive_as_they_were_also_while_another_lane_is_stuck(cluster, tmp_path):
    with closed_in_time(told(6, "ray:3", tmp_path)) as envs:
        envs.reset(seed=1)
        with pytest.raises(LookupError, match="told to") as caught:
            envs.step(actions(6, _3=RAISE))
        if sys.version_info >= (3, 11):
            where = "sub-environment 3 in step, step 1 of its episode"
            assert where in str(caught.value.__notes__)
        assert envs.reset(seed=5)[0][:, 1].tolist() == [5, 6, 7, 8, 9, 10]
        start_s = time.monotonic()
        with pytest.raises(LookupError):
            envs.step(actions(6, _0=SLEEP, _3=RAISE))
        assert time.monotonic() - start_s < HANG_S
    assert {path.name for path in tmp_path.iterdir()} == {f"closed {i}" for i in (2, 3, 4, 5)}


def test_a_death_is_named_also_while_another_lane_is_stuck(cluster):
    named = r"Lane 1 \(node .*, pid .*sub-environments 2-3, has died"
    with closed_in_time(told(6, "ray:3")) as envs:
        envs.reset(seed=1)
        start_s = time.monotonic()
        for use in (lambda: envs.step(actions(6, _0=STOP, _3=DIE)), envs.reset):
            with pytest.raises(WorkerDied, match=named):
                use()
        assert time.monotonic() - start_s < HANG_S


def test_a_deadline_and_a_replaced_lane(cluster):
    with told(3, "ray:3", step_timeout_s=2.0, on_worker_death="restart") as envs:
        envs.reset(seed=1)
        envs.step(actions(3))
        late = "Lane 1 .*has not answered within step_timeout_s=2"
        with pytest.warns(VecselectWarning, match=late):
            observations, *_, truncated, infos = envs.step(actions(3, _1=SLEEP))
        assert truncated.tolist() == infos["worker_restarted"].tolist() == [False, True, False]
        seeds = infos["restart_seed"]
        assert seeds[1] not in (1, 2, 3)
        assert observations[:, 1].tolist() == [1, seeds[1], 3]
    envs = told(2, "ray:2", step_timeout_s=1)
    envs.reset()
    with pytest.raises(StepTimeout, match="Lane 1 .*step_timeout_s=1"):
        envs.step(actions(2, _1=SLEEP))
    envs.close(terminate=True)


def test_a_node_that_dies_is_named_and_takes_no_lane_with_it_that_never_ran(doomed):
    with told(1, "ray:1", num_cpus=0.1, resources={"doomed": 0.5}) as envs:
        (place,) = [handle.place for handle in envs.unwrapped._workers.each]
        assert doomed.node_id.startswith(place.node.partition("/")[2])
        envs.reset(seed=1)
        kill_node(doomed)
        start_s = time.monotonic()
        with pytest.raises(WorkerDied, match=f"Lane 0 .node {place.node}, .*sub-environment 0,"):
            envs.step(actions(1))
        assert time.monotonic() - start_s < HANG_S
    # Ray hardly knows of it yet, and gives the node an actor, which dies before it has run.
    with told(4, "ray:4", num_cpus=0.5) as envs:
        envs.reset(seed=1)
        nodes = [handle.place.node for handle in envs.unwrapped._workers.each]
        assert not any(doomed.node_id[:8] in node for node in nodes)


def test_a_lane_whose_node_dies_goes_on_elsewhere(doomed):
    # The nodes have a CPU each, so one of four lanes runs on the node that is killed; the others
    # have room for it because a lane asks for half a CPU.
    with told(8, "ray:4", num_cpus=0.5, on_worker_death="restart") as envs:
        envs.reset(seed=1)
        envs.step(actions(8))
        nodes = [handle.place.node for handle in envs.unwrapped._workers.each]
        (lost,) = [place for place, node in enumerate(nodes) if doomed.node_id[:8] in node]
        kill_node(doomed)
        with pytest.warns(VecselectWarning, match=f"Lane {lost} .*has died.*was replaced"):
            *_, truncated, infos = envs.step(actions(8))
        expected = [row // 2 == lost for row in range(8)]
        assert truncated.tolist() == expected
        assert infos["worker_restarted"].tolist() == expected
        assert doomed.node_id[:8] not in envs.unwrapped._workers.each[lost].place.node
        envs.step(actions(8))


PROGRAM = """
    import sys
    import numpy as np
    from tests.ray_support import SLEEP, pids, told

    envs = told(2, "ray:2", sys.argv[1], address=sys.argv[2] or None)
    envs.reset(seed=1)
    envs.set_attr("sleep_s", 1.5)
    print(*pids(envs), flush=True)
    try:
        while True:
            envs.step(np.array([SLEEP, 1]))
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
        cwd=ROOT,
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
        assert program.stdout.readline() == "[5.0, 6.0]\n"
        assert program.wait(30) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"closed 0", "closed 1"}
    assert all(gone(child.pid, HANG_S) for child in family)

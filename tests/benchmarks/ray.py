"""What `ray` costs by the number of lanes, and what three nodes of one CPU each give.

python -m tests.benchmarks.ray
"""

from __future__ import annotations

import functools
import time
from statistics import median

import numpy as np

from tests.benchmarks.scale import WaitingStub, vector_step_s
from vecselect import auto_make_vec


def seconds(envs, steps):
    envs.reset(seed=1)
    actions = np.zeros(envs.num_envs, np.int64)
    times_s = []
    for _ in range(steps):
        start_s = time.perf_counter()
        envs.step(actions)
        times_s.append(time.perf_counter() - start_s)
    return median(times_s)


def main():
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    for lanes in (1, 2, 4):
        print(f"{lanes} lanes: {vector_step_s(lanes, steps=200) * 1e3:.2f} ms beside the steps")
    stub = functools.partial(WaitingStub, 0.02)
    with auto_make_vec(stub, 12, mode="sync") as envs:
        alone_s = seconds(envs, 10)
    print(f"20 ms waiting x 12: sync {alone_s * 1e3:.1f} ms a vector step")
    for options in ({}, {"lane_mode": "pool:3", "num_cpus": 1}):
        with auto_make_vec(stub, 12, mode="ray:3", vector_kwargs=options) as envs:
            took_s = seconds(envs, 30)
        gain = alone_s / took_s
        print(
            f"  ray:3 {options}: {took_s * 1e3:.1f} ms, {gain:.2f}x, {gain / 3:.2f} of three nodes"
        )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()

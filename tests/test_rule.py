"""The ~1 ms rule and the predictions printed beside it."""

import dataclasses

import pytest

from tests import plans
from vecselect.selection.rule import apply_rule


def a_profile(step_time_s, off_cpu=0.0, reset_share=0.0):
    return dataclasses.replace(
        plans.PROFILE, step_time_s=step_time_s, off_cpu_fraction=off_cpu, reset_share=reset_share
    )


def an_ipc(observation_s):
    return dataclasses.replace(plans.IPC, observation_s=observation_s)


def a_machine(cores):
    return dataclasses.replace(plans.MACHINE, cores=cores)


def verdict(step_s, *, ipc_s=100e-6, cores=4.0, num_envs=8, off_cpu=0.0, reset_share=0.0):
    profile = a_profile(step_s, off_cpu, reset_share)
    return apply_rule(profile, a_machine(cores), num_envs, an_ipc(ipc_s))


@pytest.mark.parametrize(
    ("step_s", "cores", "num_envs", "off_cpu", "mode"),
    [
        (0.99e-3, 4.0, 8, 0.0, "sync"),
        (1e-3, 4.0, 8, 0.0, "sync"),
        (1.01e-3, 4.0, 8, 0.0, "async"),
        (50e-3, 4.0, 1, 0.0, "sync"),
        (50e-3, 1.0, 1, 0.9, "sync"),
        (50e-3, 4.0, 2, 0.0, "async"),
        (50e-3, 1.0, 8, 0.0, "sync"),  # one core
        (50e-3, 1.0, 8, 0.4, "sync"),
        (50e-3, 1.0, 8, 0.5, "async"),
        (0.1e-3, 1.0, 8, 0.9, "sync"),
        (50e-3, 1.5, 8, 0.0, "sync"),
        (50e-3, 2.0, 8, 0.0, "async"),
    ],
)
def test_the_mode_and_a_reason_whatever_messages_cost(step_s, cores, num_envs, off_cpu, mode):
    for ipc_s in (1e-6, 10e-3):
        said = verdict(step_s, ipc_s=ipc_s, cores=cores, num_envs=num_envs, off_cpu=off_cpu)
        assert said.mode == mode
        assert said.reason.endswith(".")


def test_a_step_carries_its_share_of_the_resets():
    assert verdict(0.8e-3).mode == "sync"
    said = verdict(0.8e-3, reset_share=0.5)
    assert said.step_time_s == pytest.approx(1.6e-3)
    assert said.mode == "async"
    assert said.sync_s == pytest.approx(8 * 1.6e-3)


@pytest.mark.parametrize(
    ("options", "sync_s", "async_s", "break_even_s"),
    [
        pytest.param({}, 16e-3, 0.8e-3 + 4e-3, 0.8e-3 / 6, id="8 on 4 cores"),
        pytest.param({"num_envs": 3}, 6e-3, 0.3e-3 + 2e-3, 0.15e-3, id="fewer than cores"),
        pytest.param({"cores": 2.5}, 16e-3, 0.8e-3 + 6.4e-3, 0.8e-3 / 4.8, id="part of a core"),
        pytest.param({"off_cpu": 0.5}, 16e-3, 0.8e-3 + 2e-3, 0.8e-3 / 7, id="half waiting"),
        pytest.param(
            {"off_cpu": 0.9, "cores": 1.0}, 16e-3, 0.8e-3 + 2e-3, 0.8e-3 / 7, id="one core waits"
        ),
        pytest.param(
            {"off_cpu": 0.5, "cores": 1.0}, 16e-3, 0.8e-3 + 8e-3, 0.2e-3, id="one core, half"
        ),
        pytest.param({"cores": 1.0}, 16e-3, 0.8e-3 + 16e-3, None, id="one core computes"),
        pytest.param({"num_envs": 1}, 2e-3, 0.1e-3 + 2e-3, None, id="one environment"),
    ],
)
def test_predictions_computed_by_hand_for_2_ms_steps(options, sync_s, async_s, break_even_s):
    said = verdict(2e-3, ipc_s=100e-6, **options)
    assert said.sync_s == pytest.approx(sync_s)
    assert said.async_s == pytest.approx(async_s)
    assert said.break_even_s == (None if break_even_s is None else pytest.approx(break_even_s))


@pytest.mark.parametrize("num_envs", [2, 7, 64])
@pytest.mark.parametrize("cores", [1.5, 2.0, 16.0])
@pytest.mark.parametrize("off_cpu", [0.0, 0.3, 0.95])
def test_at_the_break_even_both_modes_take_the_same_time(num_envs, cores, off_cpu):
    options = {"num_envs": num_envs, "cores": cores, "off_cpu": off_cpu}
    break_even_s = verdict(1e-3, **options).break_even_s
    at = verdict(break_even_s, **options)
    assert at.sync_s == pytest.approx(at.async_s)
    above, below = (verdict(break_even_s * factor, **options) for factor in (1.1, 0.9))
    assert above.sync_s > above.async_s
    assert below.sync_s < below.async_s


def test_where_no_round_trips_were_measured_nothing_is_predicted_by_them():
    said = apply_rule(a_profile(2e-3), a_machine(4.0), 8)
    assert (said.mode, said.async_s, said.break_even_s) == ("async", None, None)
    assert said.sync_s == pytest.approx(16e-3)

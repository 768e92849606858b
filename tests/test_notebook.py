"""A notebook, run from beginning to end: what its cells show, and what is left of it."""

import os
import re

import psutil
import pytest

from tests.processes import until

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]

CELLS = {
    "pool": """
        import os, psutil, signal, sys
        from vecselect import Report, auto_make_vec, recommend

        assert not hasattr(sys.modules["__main__"], "__file__")
        envs = auto_make_vec("CartPole-v1", 2, mode="pool:1")
        envs.reset(seed=1)
        envs.step(envs.action_space.sample())
        envs
    """,
    "auto": """
        import gymnasium as gym

        class Coin(gym.Env):
            observation_space = gym.spaces.Discrete(2)
            action_space = gym.spaces.Discrete(2)

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return 0, {}

            def step(self, action):
                return 1, 0.0, False, False, {}

        mine = auto_make_vec(Coin, 2, use_store=False, effort="measure", budget_s=0.3)
        mine.reset(seed=1)
        mine
    """,
    "plan": "Report(mine.plan)",
    "report": "mine.report",
    "interrupt": """
        def stop(text):
            os.killpg(os.getpgrp(), signal.SIGINT)  # what the kernel's button does

        try:
            recommend("CartPole-v1", 2, use_store=False, progress=stop)
        except KeyboardInterrupt:
            print("interrupted")
    """,
    "progress": """
        recommend("CartPole-v1", 2, use_store=False, effort="rule", budget_s=0.3, progress=print);
    """,
    "close": """
        envs.close()
        mine.close()
        children = psutil.Process().children(recursive=True)
        print([one.pid for one in children])
        print([one.pid for one in children if not any(
            word in " ".join(one.cmdline()) for word in ("forkserver", "resource_tracker")
        )])
        print(os.getpid())
    """,
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """By the cell's name: its outputs."""
    notebook = nbformat.v4.new_notebook()
    for source in CELLS.values():
        lines = source.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        text = "\n".join(line[indent:] for line in lines)
        notebook.cells.append(nbformat.v4.new_code_cell(text))
    folder = str(tmp_path_factory.mktemp("notebook"))
    client = nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def streams(cell):
    return "".join(one.text for one in cell if one.output_type == "stream" and one.name == "stdout")


def shown(cell):
    (one,) = [one.data for one in cell if one.output_type == "execute_result"]
    return one


@pytest.mark.parametrize("name", ["plan", "report"])
def test_a_report_is_shown_in_html_and_as_text(name, outputs):
    data = shown(outputs[name])
    assert set(data) == {"text/plain", "text/html"}
    assert data["text/html"].startswith('<div class="vecselect">')
    assert "Coin x 2" in data["text/html"]
    assert data["text/plain"].startswith("vecselect: Coin x 2")


def test_the_environment_is_one_line_of_text_and_progress_is_told(outputs):
    for name in ("pool", "auto"):
        ((kind, text),) = shown(outputs[name]).items()
        assert kind == "text/plain"
        assert re.fullmatch(r"<AutoVectorEnv mode='[^']+', .*>", text)
    assert "measuring" in streams(outputs["progress"])


def test_nothing_fails_and_nothing_is_written_to_stderr(outputs):
    for name, cell in outputs.items():
        assert not [one for one in cell if one.output_type == "error"], name
        assert not [one for one in cell if one.get("name") == "stderr"], name
    # And an interrupt of the kernel stops planning.
    assert streams(outputs["interrupt"]).strip() == "interrupted"


def test_no_worker_is_left_and_no_process_survives_the_kernel(outputs):
    everybody, workers, kernel = streams(outputs["close"]).splitlines()
    assert workers == "[]"
    pids = [int(kernel), *(int(word) for word in everybody.strip("[]").split(", ") if word)]
    assert until(lambda: not any(map(psutil.pid_exists, pids)), 10.0)
    assert os.getpid() not in pids

"""vecselect inside other packages, and around more environments: each with the real package.

They load torch into the process, which changes how vecselect plans, and they are heavy; so plain
`pytest` does not enter this folder. By hand, each in a virtual environment of its own:

    pip install -e '.[test,sb3]' array-api-compat torchrl skrl moviepy opencv-python-headless \
        ale-py minigrid gymnasium-robotics
    pytest tests/ecosystem

    pip install -e '.[test]' 'ray[rllib]' torch
    pytest tests/ecosystem/test_libraries.py -k rllib

What is not installed is skipped.
"""

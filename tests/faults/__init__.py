"""What goes wrong in the field, made to go wrong here: one file for each kind of fault.

Each case runs in a process of its own (`case.py`), which is killed and counts as hung when it does
not end, and whose processes, descriptors, names in shared memory and temporary files are counted
when it has. A case may print nothing but what it allows. The environments that fail when they are
told to are in `faulty.py`, the programs that are killed and interrupted in `programs.py`. Longer
runs: `tests/benchmarks/soak.py`.
"""

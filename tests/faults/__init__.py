"""What goes wrong in the field, made to go wrong here.

Each case runs in a process of its own (`harness.py`), which is killed and counts as hung when it
does not end, and whose processes, descriptors, names and files are counted when it has. Every case
may print nothing but what it allows, which is check 43. Longer runs: `tests/benchmarks/soak.py`.

The checks are those of the list that the project holds itself to. Where they are tested:

=====  ==============================================================================
check  tested in
=====  ==============================================================================
1      test_contract (stock environments in every autoreset mode and mode; odd counts)
2      test_contract (spaces); here: test_data (custom spaces)
3-6    here: test_data; test_pool, test_arguments
7      here: test_hangs; test_pool (a step that timed out is still pending)
8      test_pool_properties (any infos); here: test_data
9      test_pool; here: test_data
10, 11 here: test_data; test_pool_properties (any order of calls)
12, 13 test_arguments, test_facade; here: test_data
14     test_contract (arrays never change), test_pool (without copy): not repeated here
15     here: test_data
16     test_arguments, test_contract (seeds); here: test_errors (workers unharmed)
17-19  here: test_death
20     here: test_hangs
21-24  here: test_errors; test_pool
25     here: test_errors, test_hangs, test_death; test_pool, test_race_runs
26     here: test_death; test_pool_restarts
27     here: test_hangs, test_lifecycle
28, 29 here: test_lifecycle, test_planning; test_pool_lifecycle; 20 times: soak --kills
30     here: test_interrupts, test_planning; 200 times: soak --interrupts
31     here: test_interrupts, test_handlers; test_pool_lifecycle (interrupted calls)
32     test_contract (after close, out of order): not repeated here
33     here: test_lifecycle; test_pool (not copied), test_pool_lifecycle (forked)
34     test_pool_lifecycle (pool); here: test_lifecycle (async)
35     here: test_lifecycle
36     here: test_planning (needs torch); test_scripts (threads that hold locks)
37     test_scripts: not repeated here
38     test_probe, test_race_runs, test_make; here: test_planning
39     test_probe, test_race_runs; here: test_planning; the store: test_store, here: test_store
40     here: test_lifecycle, test_planning
41     test_make, test_pool, test_request; here: test_lifecycle
43     here: every case
=====  ==============================================================================
"""

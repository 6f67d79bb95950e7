"""The simulator of cluster maps: CPU time a map, from settings to the finished store.

The peer solves for each cluster what ours looks up: the ODE of the isothermal core, the projection
at every sub-pixel and each subhalo in turn. Neither time counts the start.

    python -m benchmarks.sidm_simulator
"""

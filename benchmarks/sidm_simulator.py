"""Speed of the simulator of cluster maps against the plain strategy, in one run.

The plain strategy integrates the line of sight on a fixed grid for each cluster, resolves every
pixel by 3 x 3 points, and adds subhaloes to the whole map one at a time; cores, draws and noise of
particles are the same calls. See `measure.py` for the lines. Run alone:
`python benchmarks/sidm_simulator.py`.
"""

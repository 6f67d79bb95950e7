"""What keeps a run safe: checkpoints, preemption, exact resume, values that are not finite."""

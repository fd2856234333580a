"""From patients, simulated or real, to a checkpoint with its card."""

"""Training: configuration, shots, the loop over phases, and checkpoints."""

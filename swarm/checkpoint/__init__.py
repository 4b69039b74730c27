"""Checkpoints: the shared state of a round on disk, written beside training, verified before it is believed."""

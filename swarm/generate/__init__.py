"""`swarm generate`: talk to a checkpoint."""

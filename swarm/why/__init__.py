"""`swarm why`: the story of a round, from the event logs of those who were in it."""

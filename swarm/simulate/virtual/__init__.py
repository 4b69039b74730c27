"""`swarm simulate --virtual`: the production cores of a whole swarm on a virtual clock and virtual links, seeded."""

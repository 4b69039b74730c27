"""`swarm simulate`: a swarm of real node processes on this machine, with faults on a script and a report at the end."""

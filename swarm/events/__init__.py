"""What a node reports about itself: typed events, one JSON object a line, and a short line a person can read.

`EventLog` writes them, `EventReader` follows a file that may still be growing. Every event has a unix `time` (seconds,
of the writer's clock: to be shown, never compared between machines) and its name under `event`.
"""

from swarm.events.checkpoints import Checkpoint, CheckpointRefused, Resumed, Uploaded
from swarm.events.event import Event, megabytes, short
from swarm.events.life import Error, Evaluated, Left, Notice, Started, Synced, Train, Waiting
from swarm.events.log import EVENTS, EventFile, EventLog, EventReader, parse
from swarm.events.peers import DonorDropped, PeerDown, PeerUp, Refused
from swarm.events.rounds import Attempt, Behind, Reducing, RefusedPlan, Round, Straggler

__all__ = [
    "EVENTS",
    "Attempt",
    "Behind",
    "Checkpoint",
    "CheckpointRefused",
    "DonorDropped",
    "Error",
    "Evaluated",
    "Event",
    "EventFile",
    "EventLog",
    "EventReader",
    "Left",
    "Notice",
    "PeerDown",
    "PeerUp",
    "Reducing",
    "Refused",
    "RefusedPlan",
    "Resumed",
    "Round",
    "Started",
    "Straggler",
    "Synced",
    "Train",
    "Uploaded",
    "Waiting",
    "megabytes",
    "parse",
    "short",
]

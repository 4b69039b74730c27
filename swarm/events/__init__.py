"""What a node reports about itself: typed events, one JSON object a line, and a short line a person can read.

`EventLog` writes them, `EventReader` follows a file that may still be growing. Every event has a unix `time` (seconds,
of the writer's clock: to be shown, never compared between machines) and its name under `event`.
"""

from swarm.events.checkpoints import Checkpoint, CheckpointRefused, Resumed, Uploaded
from swarm.events.event import Event, join, megabytes, names, short
from swarm.events.life import Error, Evaluated, Left, Notice, Started, Synced, Train, Waiting
from swarm.events.log import EVENTS, EventFile, EventLog, EventReader, parse
from swarm.events.peers import Dead, DonorDropped, Doubted, Forgotten, PeerDown, PeerUp, Refused, Returned, Unreachable
from swarm.events.rounds import (
    Adopted,
    AskedForRecord,
    Attempt,
    Behind,
    Committed,
    Excluded,
    HistoryReplaced,
    Ready,
    Reducing,
    RefusedMessage,
    RefusedPlan,
    Repaired,
    Round,
    Straggler,
    Superseded,
    Voted,
)

__all__ = [
    "EVENTS",
    "Adopted",
    "AskedForRecord",
    "Attempt",
    "Behind",
    "Checkpoint",
    "CheckpointRefused",
    "Committed",
    "Dead",
    "DonorDropped",
    "Doubted",
    "Error",
    "Evaluated",
    "Event",
    "EventFile",
    "EventLog",
    "EventReader",
    "Excluded",
    "Forgotten",
    "HistoryReplaced",
    "Left",
    "Notice",
    "PeerDown",
    "PeerUp",
    "Ready",
    "Reducing",
    "Refused",
    "RefusedMessage",
    "RefusedPlan",
    "Repaired",
    "Resumed",
    "Returned",
    "Round",
    "Started",
    "Straggler",
    "Superseded",
    "Synced",
    "Train",
    "Unreachable",
    "Uploaded",
    "Voted",
    "Waiting",
    "join",
    "megabytes",
    "names",
    "parse",
    "short",
]

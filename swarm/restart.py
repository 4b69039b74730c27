"""How a node that lost a local rank, or its state, starts again: the same process, anew.

The process replaces itself by a new start of its own command. So nothing of the broken group is left, be it a thread
that waits for ever or the memory of a GPU; its process id stays, for those who started it and may stop it.
"""

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn

START_AGAIN = 75
"""Exit status for it, where starting again is the launcher's task (EX_TEMPFAIL: trying again may help)."""
HEALTHY_SECONDS = 600.0
"""A life this long was a good one: losses before it are forgotten."""
LONGEST_PAUSE_SECONDS = 300.0

_COUNT = "SWARM_RESTARTS"
_COMPANY = "SWARM_COMPANY"


def restarts() -> int:
    """How often this node has started again in a row."""
    count = os.environ.get(_COUNT, "")
    return int(count) if count.isdecimal() else 0


def company_expected() -> bool:
    """Whether there were others in the swarm when we had to leave it, so that they hold its state."""
    return os.environ.get(_COMPANY) == "1"


def expect_company(expected: bool) -> None:
    """Tell it to the life after this one."""
    os.environ[_COMPANY] = "1" if expected else "0"


def pause_before(count: int) -> float:
    """Seconds to wait before the restart with that number: none before the first, then twice as long each time.

    A rank that dies at once, again and again, must not keep the swarm busy with a newcomer.
    """
    return 0.0 if count <= 1 else min(2.0 ** (count - 1), LONGEST_PAUSE_SECONDS)


def start_again(lived: float) -> NoReturn:
    """Replace this process, which has lived for so many seconds."""
    count = 1 if lived >= HEALTHY_SECONDS else restarts() + 1
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(pause_before(count))
    os.environ[_COUNT] = str(count)
    # in full, because a Python that is called by name alone looks for its packages where PATH leads it
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

"""Wall clocks that are wrong: a small library, preloaded into a node and all it starts, shifts what they read.

What Python and C read of the wall clock is shifted. Monotonic clocks are not, nor the daemon p2pd, which does not use
the C library for time. libfaketime does the same and more; with it a node's start took ten times the CPU.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from p2p.errors import SwarmError

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static time_t ahead;

__attribute__((constructor)) static void begin(void) {
    const char *told = getenv("SWARM_CLOCK_AHEAD");
    ahead = told ? atol(told) : 0;
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = real ? real(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead;
    return result;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""
_COMPILERS = ("cc", "gcc", "clang")


class NoWrongClock(SwarmError):
    """Nothing here can show a process another time."""


def skewed(seconds: float, folder: Path) -> dict[str, str]:
    """Environment variables that shift a process's wall clock by whole seconds.

    folder: where the library is compiled, once. Raises NoWrongClock.
    """
    if not round(seconds):
        return {}
    library = folder / "wrong_clock.so"
    if not library.exists():
        _compile(library)
    return {"LD_PRELOAD": str(library), "SWARM_CLOCK_AHEAD": str(round(seconds))}


def _compile(library: Path) -> None:
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoWrongClock(
            "a wrong clock takes a C compiler: apt-get install gcc libc6-dev, or leave clocks out of the fault script"
        )
    command = [compiler, "-shared", "-fPIC", "-O2", "-x", "c", "-o", str(library), "-", "-ldl"]
    result = subprocess.run(command, input=_SOURCE, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        said = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise NoWrongClock(f"the library for wrong clocks does not compile: {said}")

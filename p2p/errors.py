"""The base of every error that a person can do something about."""

from __future__ import annotations


class SwarmError(Exception):
    """One clear line that says what is wrong and what to do; the command line prints it and exits with status 1."""

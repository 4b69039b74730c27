"""`python -m swarm` is `swarm`, and this is where both begin."""

from swarm.interrupt import interrupt_ends_at_once


def main() -> None:
    """Entry point."""
    with interrupt_ends_at_once():
        from swarm.cli import main as commands
    commands()


if __name__ == "__main__":
    main()

"""Numbers of each round for people: always as JSON lines, and to a tracker of their choice."""

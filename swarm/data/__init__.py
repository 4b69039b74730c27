"""Text, tokens, and which window of them a global sample index means."""

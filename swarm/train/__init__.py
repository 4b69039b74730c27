"""Inner training: one node's local FSDP2 group takes optimizer steps between two rounds."""

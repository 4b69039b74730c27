"""Inner training: one node's local FSDP2 group takes AdamW steps between two rounds."""

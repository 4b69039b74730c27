"""The other ranks of a node's local group: processes that it starts, commands, watches and never leaves behind."""

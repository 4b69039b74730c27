"""What virtual nodes are called."""


def peer_id(index: int) -> str:
    """A legal peer id that shows the node's number."""
    return f"12D3KooWVirtual{index:037d}"


def node_name(index: int) -> str:
    return f"n{index}"

"""In which order the parameters lie in the flat vector of a run that averages a fragment of it a round.

Streaming DiLoCo (arXiv:2501.18512) has fragments of whole layers, strided: layer i goes to fragment i mod F, so that
each has shallow and deep layers. Here the *order* is strided by layers, and the vector is then cut into F equal parts,
at whole blocks of the codec: embedding and output, which may weigh more than many layers, are shared out, and every
round sends as much as any other. A cut may go through a parameter: the outer step is elementwise.
"""

from __future__ import annotations

import re

_LAYER = re.compile(r"layers\.(\d+)\.")


def place(name: str, fragments: int) -> tuple[int, int, int]:
    """Sort key of a parameter: the embedding, then the layers by their number mod `fragments`, then the rest."""
    layer = _LAYER.match(name)
    if layer is None:
        return (0 if name.startswith("embedding.") else 2), 0, 0
    number = int(layer[1])
    return 1, number % fragments, number

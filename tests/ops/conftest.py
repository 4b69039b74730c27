"""Kernels are compiled before the tests, so that no test's time depends on being the first."""

from __future__ import annotations

import pytest

from ops.codec import CODECS, Codec
from ops.warm_up import warm_up


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    for codec in CODECS.values():
        warm_up(codec)


@pytest.fixture(params=list(CODECS))
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]


@pytest.fixture(params=[name for name, codec in CODECS.items() if codec.scaled])
def scaled_codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]

"""One small export, converted once for all tests that only read it."""

import pytest


@pytest.fixture(scope="session")
def small_export(made_once):
    """The version's directory of an untrained MMNet with every kind of input."""
    from tests.serving import exported

    def write(directory):
        exported.write(directory, smoothed_history=True)

    return made_once("small_export", write) / "1"


@pytest.fixture(scope="session")
def onnx_cache(made_once):
    """Where its signatures are kept as ONNX; they are converted as tests need them."""
    return made_once("onnx_cache", lambda path: path.mkdir())

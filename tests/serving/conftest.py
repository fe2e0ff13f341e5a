"""One small export, converted once for all tests that only read it."""

import pytest


@pytest.fixture(scope="session")
def small_export(tmp_path_factory):
    """The version's directory of an untrained MMNet with every kind of input."""
    from tests.serving import exported

    return exported.write(tmp_path_factory.mktemp("export"), smoothed_history=True)


@pytest.fixture(scope="session")
def onnx_cache(tmp_path_factory):
    """Where its signatures are kept as ONNX."""
    return tmp_path_factory.mktemp("onnx_cache")

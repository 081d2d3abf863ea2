"""The conformance suite."""

import pytest
from seqcore.conformance import Suite


class TestSmoke(Suite):
    backend = "onnxruntime"
    tier = "smoke"


@pytest.mark.standard
class TestStandard(Suite):
    backend = "onnxruntime"

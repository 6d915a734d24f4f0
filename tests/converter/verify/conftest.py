"""Models run in this process, so that hundreds of them start at once and what ropext computes can be changed."""

import pytest

from ropext.converter.verify import checks
from tests.helpers.in_process import InProcess


@pytest.fixture(autouse=True)
def in_process(request, monkeypatch):
    """Start no process, but in the tests of it."""
    if request.module.__name__.rpartition(".")[2] != "test_model_process":
        monkeypatch.setattr(checks, "ModelProcess", InProcess)

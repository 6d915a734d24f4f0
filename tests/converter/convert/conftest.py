"""Fixtures of the tests that write."""

import pytest

from tests.helpers.written import small_plan


@pytest.fixture
def plan(tmp_path):
    return small_plan(tmp_path)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"

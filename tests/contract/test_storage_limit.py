"""The storage contract, kept by the decorator that limits bandwidth."""

from __future__ import annotations

import random

import pytest

from tests.contract.test_storage_backends import OnLocal, OnMemory
from wsistore.storage.base import Storage
from wsistore.storage.limit import Limits, LimitStorage
from wsistore.storage.retry import RetryStorage
from wsistore.testing.clock import ManualClock
from wsistore.testing.storage import StorageContract


class Limited:
    """As a site uses it: limited, and what fails is repeated."""

    @pytest.fixture(params=[(1000, 1000), (None, 1000), (10**12, None)], ids=["both", "down", "up"])
    def storage(self, request: pytest.FixtureRequest, inner: Storage) -> Storage:
        clock = ManualClock()
        up, down = request.param
        limited = LimitStorage(inner, Limits(up, down, clock))
        return RetryStorage(limited, clock=clock, rng=random.Random(1))


class TestLimitedLocal(OnLocal, Limited, StorageContract):
    pass


class TestLimitedMemory(OnMemory, Limited, StorageContract):
    pass

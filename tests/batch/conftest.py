from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.batches import Runner

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async.sandbox import Sandbox


@pytest.fixture
def runner(sandbox: Sandbox, tmp_path: Path) -> Runner:
    return Runner(sandbox, tmp_path)

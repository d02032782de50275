"""Fixtures of the tests with httpx and httpx2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from tests.support.tls import stranger

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    stranger().cert_pem.write_to_path(path)
    return path


@pytest.fixture(autouse=True)
def one_authority(certificate_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust one CA, which no server of the tests uses: every client would load those of the machine for 20 ms."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate_file))


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def package(request: pytest.FixtureRequest) -> Any:
    return request.param

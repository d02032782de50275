"""Fixtures of tests with httpx and httpx2: the package, and a CA of no server instead of the machine's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import trustme

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture(autouse=True)
def one_authority(certificate_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client loads the trusted CAs; those of the machine take 20 ms. This one trusts no server of the tests."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate_file))


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def package(request: pytest.FixtureRequest) -> Any:
    return request.param

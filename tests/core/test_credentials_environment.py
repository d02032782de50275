"""`ClientCredentials.from_env()`: variables, errors, near misses and pickling."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from yarl import URL

from simplestore_async import ClientCredentials, SecretFile
from simplestore_async._core.target import find_base_url
from simplestore_async.errors import ConfigurationError
from tests.support.platforms import needs_case
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "canary-secret"
FIELDS: dict[str, Any] = {"client_id": "app", "client_secret": SECRET}
PREFIX = "SIMPLESTORE_"
BOTH = {"CLIENT_ID": "app", "CLIENT_SECRET": SECRET}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set exactly these variables of the package, given without their prefix."""

    def set_to(**variables: str) -> None:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(PREFIX + name, value)

    set_to()
    return set_to


def write(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


def error_of_from_env() -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        ClientCredentials.from_env()
    assert "canary" not in str(caught.value)
    return caught.value


def test_all(environment: Callable[..., None], tmp_path: Path) -> None:
    """Every variable is read, id and secret also from files, and surrounding invisible characters are stripped."""
    path = tmp_path / "secret"
    environment(
        CLIENT_ID_FILE=write(tmp_path / "id", "\ufeff app\r\n"),
        CLIENT_SECRET_FILE=f" {write(path, SECRET)}\r\n",
        TOKEN_URL="https://auth.example.com/token \u200b",
        SCOPE="\xa0read write ",
    )

    assert ClientCredentials.from_env() == ClientCredentials(
        client_id="app",
        client_secret=SecretFile(path),
        token_url="https://auth.example.com/token",
        scope=("read", "write"),
    )


@pytest.mark.parametrize("nothing", ["", " ", "\t\n"])
def test_empty_counts_as_unset(environment: Callable[..., None], nothing: str) -> None:
    """An empty or blank variable counts as unset."""
    others = dict.fromkeys(("CLIENT_ID_FILE", "CLIENT_SECRET_FILE", "TOKEN_URL", "SCOPE"), nothing)
    environment(CLIENT_ID="app", CLIENT_SECRET=SECRET, **others)

    assert ClientCredentials(**FIELDS) == ClientCredentials.from_env()


@pytest.mark.parametrize(
    ("variables", "field", "problem", "code"),
    [
        ({}, "CLIENT_ID", "and SIMPLESTORE_CLIENT_SECRET are not set", "missing-variable"),
        ({"CLIENT_ID": "app"}, "CLIENT_SECRET", "is not set", "missing-variable"),
        ({"CLIENT_SECRET": SECRET}, "CLIENT_ID", "is not set", "missing-variable"),
        (BOTH | {"CLIENT_ID": ""}, "CLIENT_ID", "is not set", "missing-variable"),
        (BOTH | {"CLIENT_SECRET": "\ufeff"}, "CLIENT_SECRET", "is not set", "missing-variable"),
        *(
            (BOTH | {f"{name}_FILE": "/nowhere"}, name, f"and SIMPLESTORE_{name}_FILE are both set", "configuration")
            for name in ("CLIENT_SECRET", "CLIENT_ID")
        ),
        (
            BOTH | {"CLIENT_SECRET": f"{SECRET}\nx"},
            "CLIENT_SECRET",
            "must be one line of visible text",
            "configuration",
        ),
        (BOTH | {"TOKEN_URL": "http://auth.example"}, "TOKEN_URL", "uses plain http to auth.example", "plain-http"),
        (BOTH | {"SCOPE": '"canary"'}, "SCOPE", "must be names of visible ASCII characters", "configuration"),
    ],
    ids=[
        *("neither", "no secret", "no id", "empty id", "invisible secret", "secret twice", "id twice"),
        *("two lines", "plain http", "scope in quotes"),
    ],
)
def test_wrong_variable(
    environment: Callable[..., None], variables: dict[str, str], field: str, problem: str, code: str
) -> None:
    """The error of a missing or wrong variable names it without showing its value."""
    environment(**variables)
    error = error_of_from_env()

    assert (PREFIX + field, code) == (error.field, error.code)
    assert error.problem.startswith(problem)


def test_hint_for_missing_variables(environment: Callable[..., None]) -> None:
    """The hint names the variables that may name a file in their place."""
    environment()
    files = "SIMPLESTORE_CLIENT_ID_FILE or SIMPLESTORE_CLIENT_SECRET_FILE"
    assert f"copy them from the Control Panel, or name a file in {files}" == error_of_from_env().hint
    environment(CLIENT_ID="app")
    hint = "copy it from the Control Panel, or name a file in SIMPLESTORE_CLIENT_SECRET_FILE"
    assert hint == error_of_from_env().hint


@pytest.mark.parametrize("variable", ["CLIENT_ID_FILE", "CLIENT_SECRET_FILE", "TOKEN_URL"])
@pytest.mark.parametrize(
    "value", [SECRET, f"{SECRET}/x", f"/{SECRET}", f"/{SECRET}/x", f"~{SECRET}", f"{SECRET}\x1b[2J", f"{SECRET}\n/x"]
)
def test_secret_in_the_wrong_variable(environment: Callable[..., None], variable: str, value: str) -> None:
    """A secret pasted into the wrong variable is shown neither by the error nor by the traceback's locals."""
    environment(**{name: text for name, text in BOTH.items() if not variable.startswith(name)} | {variable: value})
    error = error_of_from_env()

    assert PREFIX + variable == error.field
    assert "canary" not in everything_shown(error)


@pytest.mark.parametrize(
    ("similar", "meant"),
    [
        ("SIMPLESTORE_CLIENTID", "SIMPLESTORE_CLIENT_ID"),
        ("SIMPLESTORE_ID", "SIMPLESTORE_CLIENT_ID"),
        ("SIMPLE_STORE_CLIENT_ID", "SIMPLESTORE_CLIENT_ID"),
        ("CLIENT_ID", "SIMPLESTORE_CLIENT_ID"),
        ("SIMPLESTORE_SECRET", "SIMPLESTORE_CLIENT_SECRET"),
        ("SIMPLESTORE_CLIENT_SECRT", "SIMPLESTORE_CLIENT_SECRET"),
        pytest.param("simplestore_client_secret", "SIMPLESTORE_CLIENT_SECRET", marks=needs_case),
        ("SIMPLSTORE_CLIENT_SECRET", "SIMPLESTORE_CLIENT_SECRET"),
        ("SIMPLESTORE_CLIENT_SECRETFILE", "SIMPLESTORE_CLIENT_SECRET_FILE"),
    ],
)
def test_near_miss(environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch, similar: str, meant: str) -> None:
    """A variable whose name resembles a missing one is suggested without showing its value."""
    environment()
    monkeypatch.setenv(similar, SECRET)
    error = error_of_from_env()

    assert error.problem.endswith(f"are not set, but {similar} is")
    assert error.hint.startswith(f"rename it to {meant}, or copy")


@pytest.mark.parametrize("other", ["AZURE_CLIENT_ID", "SIMPLESTORE_BASE_URL", "SECRET", "SIMPLESTORE_CLIENT\x1b[2J"])
def test_no_near_miss(environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Unrelated variables are not suggested, nor are names with control characters."""
    environment()
    monkeypatch.setenv(other, SECRET)

    assert error_of_from_env().problem.endswith("are not set")


def test_near_miss_of_the_base_url(environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable whose name resembles that of the base URL is suggested."""
    environment()
    monkeypatch.setenv("SIMPLESTORE_BASEURL", "https://canary")

    with pytest.raises(ConfigurationError, match=r"^SIMPLESTORE_BASE_URL is not set, but SIMPLESTORE_BASEURL is;"):
        find_base_url()
    assert URL("https://api.example") == find_base_url("https://api.example")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(environment: Callable[..., None], protocol: int) -> None:
    """A pickle contains no values: loading it reads the environment of the loading process."""
    environment(CLIENT_ID="canary-id", CLIENT_SECRET=SECRET, SCOPE="canary-scope")
    pickled = pickle.dumps(ClientCredentials.from_env(), protocol)
    environment(CLIENT_ID="other-id", CLIENT_SECRET="other-secret")

    assert b"canary" not in pickled
    expected = ClientCredentials(client_id="other-id", client_secret="other-secret")
    loaded = pickle.loads(pickled)
    assert expected == loaded == pickle.loads(pickle.dumps(loaded))


@pytest.mark.parametrize("change", [{"client_id": "other"}, {"client_secret": "other"}, {"scope": "read"}])
def test_pickle_of_changed_credentials(environment: Callable[..., None], change: dict[str, Any]) -> None:
    """Credentials that were changed after `from_env()` cannot be pickled."""
    environment(**BOTH)
    credentials = attrs.evolve(ClientCredentials.from_env(), **change)

    with pytest.raises(TypeError, match=r"use ClientCredentials\.from_env\(\) in each process"):
        pickle.dumps(credentials)

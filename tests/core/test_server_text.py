"""`SecretFilter`: which text of a server may be shown."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from simplestore_async._core.server_text import WITHHELD, SecretFilter, spell_in_base64

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "canary-Secret+&=%: \"\u00e9<~!*(')/?x"
RANDOM_SECRET = "Qv8~kPz3-Rm_wX5.tYb2Hj9LdF7sGc4NnA1uEiOo"


def percent(text: str) -> str:
    return quote(text, safe="")


def as_json(text: str) -> str:
    return json.dumps(text)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def in_hexadecimal(text: str) -> str:
    return text.encode().hex()


def holds(text: str, secret: str = SECRET) -> bool:
    return SecretFilter([secret, *spell_in_base64(secret)]).holds(text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "reversed": lambda text: text[::-1],
    "cut short": lambda text: text[:-2],
    "without its beginning": lambda text: text[3:],
    "eight characters of it": lambda text: text[4:12],
    "space inside": lambda text: f"{text[:4]} {text[4:]}",
    "line break inside": lambda text: f"{text[:5]}\n{text[5:]}",
    "zero width inside": "\u200b".join,
    "struck through": "\u0336".join,
    "spaced out": " ".join,
    "hyphens inside": "-".join,
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "percent": percent,
    "percent in Latin-1": lambda text: quote(text, safe="", encoding="latin-1"),
    "percent five times": lambda text: percent(percent(percent(percent(percent(text))))),
    "percent in UTF-16": lambda text: "".join(f"%u{ord(c):04x}" for c in text),
    "form": quote_plus,
    "JSON": as_json,
    "JSON of every character": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
    "JSON of PHP": lambda text: as_json(text).replace("/", "\\/"),
    "JavaScript code points": lambda text: "".join(f"\\u{{{ord(c):x}}}" for c in text),
    "Python": repr,
    "Python bytes": lambda text: repr(text.encode()),
    "Python 32 bit": lambda text: "".join(f"\\U{ord(c):08x}" for c in text),
    "C octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "C hexadecimal": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "HTML": html.escape,
    "HTML decimal": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "HTML hexadecimal": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "quoted-printable": lambda text: "".join(f"={byte:02X}" for byte in text.encode()),
    "read as Latin-1": lambda text: text.encode().decode("latin-1"),
    "read as Latin-1 twice": lambda text: text.encode().decode("latin-1").encode().decode("latin-1"),
    "read as Windows-1252": lambda text: text.encode().decode("cp1252"),
    "base64": in_base64,
    "base64 without padding": lambda text: in_base64(text).rstrip("="),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in lower case": lambda text: in_base64(text).lower(),
    "base64 shifted by one": lambda text: in_base64(f"x{text}"),
    "base64 shifted by two": lambda text: in_base64(f"xy{text}"),
    "base64 in words": lambda text: f"the value{in_base64(text)}isnotvalid",
    "base64 in lines": lambda text: "\r\n".join(in_base64(text)[start : start + 10] for start in range(0, 60, 10)),
    "base64 of Basic": lambda text: in_base64(f"app:{percent(text)}"),
    "base64 of Basic in lower case": lambda text: in_base64(f"app:{percent(text)}").lower(),
    "base64 of the form": lambda text: in_base64(f"client_id=app&client_secret={quote_plus(text)}"),
    "base64 of UTF-16": lambda text: base64.b64encode(text.encode("utf-16")).decode(),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "base32 in lower case": lambda text: base64.b32encode(f"a{text}".encode()).decode().lower(),
    "hexadecimal": in_hexadecimal,
    "hexadecimal in upper case": lambda text: text.encode().hex().upper(),
    "hexadecimal with colons": lambda text: text.encode().hex(":"),
    "hexadecimal of C": lambda text: ", ".join(f"0x{byte:02X}" for byte in text.encode()),
    "binary": lambda text: " ".join(f"{byte:08b}" for byte in text.encode()[:30]),
    "numbers": lambda text: str(list(text.encode())),
    "octal numbers": lambda text: " ".join(f"{byte:o}" for byte in text.encode()),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("secret", [SECRET, RANDOM_SECRET], ids=["reserved characters", "random"])
def test_echo(spell: Callable[[str], str], secret: str) -> None:
    """Text that contains the secret in any encoding is withheld as a whole."""
    hidden = SecretFilter([secret, *spell_in_base64(secret)])

    assert WITHHELD == hidden.show(spell(secret))
    assert WITHHELD == hidden.show(f"The secret {spell(secret)} of app is wrong")


@pytest.mark.parametrize("spell", [str, percent, quote_plus, as_json, html.escape, in_base64, repr])
@pytest.mark.parametrize(
    "secret",
    [
        *("a%25b%2541%", "a+b+ c", "&amp;&lt;&#38;", "\\\\u0041\\x41\\", "***", ".*|(a)", "\u20ac\U0001f511", "=="),
        *("\u00e9" * 9, '"#"#'),
    ],
)
def test_secret_that_looks_encoded(secret: str, spell: Callable[[str], str]) -> None:
    """A secret that looks encoded, or has no letters, is found in any encoding."""
    assert holds(f"[{spell(secret)}]", secret)


@pytest.mark.parametrize(
    ("secret", "text", "expected"),
    [
        ("s3cret", "bad s3cret", True),
        ("s3cret", "bad S3 CRET", True),
        ("s3cret", "bad s3cre", False),
        ("s3cret", "bad czNjcmV0", True),
        ("pw", "wrong pw", True),
        ("pw", "wrong", False),
        ("12345678", "1234567", False),
        ("fiXed", "bad fi\\Xed", True),
        ("12345678", "x12345678", True),
        ("0123456789", "12345678", True),
        ("", "anything", False),
    ],
)
def test_short(secret: str, text: str, expected: bool) -> None:
    """A secret of fewer than eight characters is found as a whole, and a longer one by any eight in a row."""
    assert expected is SecretFilter([secret]).holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Unknown client",
        "Client authentication failed: the client secret of app is wrong or has expired.",
        "The secret (client_secret) must not be empty; see https://docs.example.com/errors#invalid_client%20x?a=b&c",
        (
            "AADSTS7000215: Invalid client secret provided. Ensure the secret sent in the request is the client secret "
            "value, not its ID. Trace ID: 0a1b2c3d-1111-2222-3333-444455556666 Timestamp: 2024-01-01 00:00:00Z"
        ),
        'grant_type "client_credentials" is not allowed for {"id": "6731de76-14a6-49ae-97bc-6eba6914391e"}',
        "\u5ba2\u6237\u7aef\u8eab\u4efd\u9a8c\u8bc1 \U0001f511 authentification refus\u00e9e",
        r"C:\keys\new.txt \u00e9 \x41 100% + 5 = &copy;",
    ],
)
def test_harmless(text: str) -> None:
    """Text without the secret is shown unchanged."""
    for secret in (SECRET, RANDOM_SECRET):
        assert text == SecretFilter([secret, *spell_in_base64(secret)]).show(text)


def test_cut_first() -> None:
    """Text is cut before it is searched, so eight characters of the secret before the cut withhold it."""
    hidden = SecretFilter([SECRET])

    assert WITHHELD == hidden.show("x" * 292 + SECRET)
    assert "x" * 293 + SECRET[:7] + "\u2026" == hidden.show("x" * 293 + SECRET)
    assert "x" * 300 + "\u2026" == hidden.show("x" * 300 + SECRET)


def test_several_secrets() -> None:
    """Each of several secrets is found."""
    hidden = SecretFilter(["0123456789", "abcdefghij"])

    assert [True, True, False] == [hidden.holds(text) for text in ("x 123456789", "abcdefghi", "0123 abcd")]


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("acbZYOE1", "97 99 98 90 89 79 69 49"),
        ("gowOG7?'", "147 157 167 117 107 067 077 047"),
        ("!?#$!?#$", "! ? # $ ! ? # $"),
    ],
    ids=["decimal digit 9", "octal digit 7", "spaces between signs"],
)
def test_edges(secret: str, text: str) -> None:
    """A secret is found if its numbers have the largest digit of their base, and if it has spaces but no letters."""
    assert holds(text, secret)


def test_search_is_limited() -> None:
    """Text is withheld if the secret, the text, or all readings of the text are too long to search."""
    hidden = SecretFilter([SECRET])

    assert SecretFilter(["x" * 20_000]).holds("harmless")
    assert [False, True] == [hidden.holds("~" * length) for length in (30_000, 30_001)]
    assert hidden.holds("y" * 20_000)

"""`simplestore_async.cli._text`: escaping for terminals, and hiding of secrets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from simplestore_async.cli._text import as_line, as_text, find_odd, hidden_values, hide
from tests.support.platforms import needs_posix_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ключ, naïve, 鍵", "ключ, naïve, 鍵"),
        ("a\x1b[2Jb\x07", "a\\x1b[2Jb\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u3164b\ufe0fc\u034fd", "a\\u3164b\\ufe0fc\\u034fd"),
        ("a\U000e0041b", "a\\U000e0041b"),
        ("a\udcffb", "a\\udcffb"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    """Control, bidirectional and invisible characters and lone surrogates are escaped; letters are not."""
    assert shown == as_line(text) == as_text(text)


def test_every_character() -> None:
    """Everything unprintable is escaped."""
    # No other planes have letters or signs.
    planes = *range(0x30000), 0xDFFFF, *range(0xE0000, 0xE0200), 0xF0000, sys.maxunicode
    text = "".join(map(chr, planes))
    assert as_line(text).isprintable()
    assert as_text(text).replace("\n", "").replace("\t", "").isprintable()


def test_white_space() -> None:
    """A line has single spaces; a text keeps line breaks and tabs, and escapes other separators."""
    text = "a\r\nb\tc\u2028d\x85e\rf"
    assert "a b c d e f" == as_line(text)
    assert "a\nb\tc\\u2028d\\x85e\\rf" == as_text(text)


def test_odd_characters() -> None:
    """Invisible characters are named once each; spaces are not among them."""
    assert ["U+FEFF", "U+00A0", "U+200B"] == find_odd("\ufeffa b\xa0c\u200b\u200bd\ufeff")


class TestHidden:
    def test_values(self, tmp_path: Path) -> None:
        """Secrets of the environment, of its files and of the Redis URL are hidden, the longest first."""
        path = tmp_path / "secret"
        path.write_text("from-the-file\n")
        environment = {
            "SIMPLESTORE_CLIENT_SECRET_FILE": str(path),
            "SIMPLESTORE_CACHE_KEY": "k" * 44,
            "SIMPLESTORE_REDIS_URL": "redis://user:p%C3%A4ssw%C3%B6rd@host/0",
        }
        assert ["k" * 44, "p%C3%A4ssw%C3%B6rd", "from-the-file", "pässwörd"] == hidden_values(environment)

    @pytest.mark.parametrize(
        "value", ["s3cr3t-0f-the-shop", "/x9/Kd0+u1TbXq4=", "a/b-canary-c", "~canary-secret", "x" * 10_000]
    )
    def test_secret_as_path(self, value: str) -> None:
        """Text that cannot be the path of a file is treated as a secret."""
        assert [value] == hidden_values({"SIMPLESTORE_CLIENT_SECRET_FILE": value})

    def test_path(self, tmp_path: Path) -> None:
        """An existing path, or one whose first directory exists, is shown."""
        for path in tmp_path, tmp_path / "gone" / "secret":
            assert [] == hidden_values({"SIMPLESTORE_CLIENT_SECRET_FILE": str(path)})

    @needs_posix_files
    def test_endless_file(self) -> None:
        """Only regular files are read."""
        assert [] == hidden_values({"SIMPLESTORE_CLIENT_SECRET_FILE": "/dev/zero"})

    def test_hide(self) -> None:
        """Every occurrence is replaced; values shorter than eight characters are left."""
        values = hidden_values({"SIMPLESTORE_CLIENT_SECRET": "12345678", "SIMPLESTORE_CACHE_KEY": "1234567"})
        assert "a *** b *** 1234567" == hide("a 12345678 b 12345678 1234567", values)

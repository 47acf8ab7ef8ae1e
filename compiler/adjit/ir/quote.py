"""Names as text: `quote` gives a line of ASCII for any string, lone surrogates included; `unquote` reads it back."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[^ !#-\[\]-~]")
_ESCAPE = re.compile(r'\\(?:(["\\n])|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))', re.DOTALL)


def quote(text: str) -> str:
    r"""`text` in quotes, with `\"`, `\\`, `\n`, `\u00e9` and `\U0001f600` for what is no printable ASCII."""
    return f'"{_PLAIN.sub(_escaped, text)}"'


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    if character in '"\\':
        return "\\" + character
    if character == "\n":
        return r"\n"
    number = ord(character)
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"


def unquote(text: str) -> str:
    """The string that `quote` made this of; raises ValueError for another escape."""
    return _ESCAPE.sub(_character, text[1:-1])


def _character(match: re.Match[str]) -> str:
    plain, short, long, other = match.groups()
    if other is not None or (long is not None and int(long, 16) > 0x10FFFF):
        raise ValueError(f'{match.group()} is no escape: there are \\" \\\\ \\n \\uXXXX \\UXXXXXXXX')
    if plain is not None:
        return "\n" if plain == "n" else str(plain)
    return chr(int(short or long, 16))


def printable(text: str) -> str:
    """`text` on one line that any UTF-8 stream takes, with ? for each character that does not print."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)

"""How the text of an environment variable is read: booleans, sizes, URLs, file modes, lists, mappings."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field


def _boolean(value: object) -> object:
    """AnyVar reads true, yes and 1 in any case as true; anything but those and their opposites is a typo."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "yes", "1"):
            return True
        if word in ("false", "no", "0"):
            return False
        raise ValueError("use true or false")
    return value


def _octal(value: object) -> object:
    if isinstance(value, str):
        try:
            mode = int(value, 8)
        except ValueError:
            mode = -1
        if not 0 < mode <= 0o777 or mode & 0o600 != 0o600:
            raise ValueError("use an octal file mode that lets the owner read and write, such as 0640")
        return mode
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of the database, too long a name
        raise ValueError("use a time zone of the IANA database, such as UTC or Europe/Berlin") from None
    return value


def _scheme(value: str) -> str:
    """The URL's scheme; what urlsplit says of a wrong URL may hold the password in it."""
    try:
        return urlsplit(value).scheme
    except ValueError:
        raise ValueError("that is no URL; write special characters in a password as %XX") from None


def _storage_uri(value: str) -> str:
    if value and _scheme(value) not in ("postgresql", "duckdb"):
        raise ValueError("use postgresql://… or duckdb:///path, or leave it empty to register nothing")
    return value


def _redis_url(value: str) -> str:
    if _scheme(value) not in ("redis", "rediss", "redis+socket"):
        raise ValueError("use a redis://, rediss:// or redis+socket:// URL")
    try:
        urlsplit(value).port  # noqa: B018  # raises, and would name what may be a password
    except ValueError:
        raise ValueError(
            "the port is no number; write special characters in a password as %XX, / as %2F"
        ) from None
    return value


def _size(value: object) -> object:
    """A number of bytes, or of KB, MB, GB, TB with a decimal unit: 500M, 10G, 10GB."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)B?", value.strip().upper())
    if not match:
        raise ValueError("use a number of bytes, or one with a unit, such as 500M or 10G")
    return int(match[1]) * 1000 ** " KMGT".index(match[2] or " ")


def _http_url(value: str) -> str:
    if _scheme(value) not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError("use an http:// or https:// URL")
    return value.rstrip("/")


def _tokens(value: object) -> object:
    """Comma-separated words as a tuple; AnyVar drops empty ones, too."""
    if isinstance(value, str):
        return tuple(filter(None, (part.strip() for part in value.split(","))))
    return value


def _references(value: object) -> object:
    """``GRCh38=/refs/GRCh38.fa,GRCh37=/refs/hs37d5.fa`` as a mapping from assembly to FASTA or SeqRepo."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in value.split(","))):
        assembly, equals, path = item.partition("=")
        if not (assembly and equals and path):
            raise ValueError(f"use ASSEMBLY=FASTA[,ASSEMBLY=FASTA …]; {item!r} is not such a pair")
        pairs[assembly.strip()] = path.strip()
    return pairs


#: Types of settings, each read from the text of a variable.
Boolean = Annotated[bool, BeforeValidator(_boolean)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
StorageUri = Annotated[str, AfterValidator(_storage_uri)]
#: A table's name; AnyVar takes it for one identifier, so that a dot in it names no schema.
TableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$")]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Bytes = Annotated[int, Field(gt=0), BeforeValidator(_size)]
Seconds = Annotated[int, Field(gt=0)]
Timezone = Annotated[str, AfterValidator(_timezone)]
FileMode = Annotated[int, BeforeValidator(_octal)]
Tokens = Annotated[tuple[str, ...], BeforeValidator(_tokens)]
References = Annotated[dict[str, str], BeforeValidator(_references)]


def masked(url: str) -> str:
    """The URL with its password replaced, for people and logs; a secret that is no URL is replaced whole."""
    if "://" not in url:
        return "***" if url else ""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that begins no IPv6 address
        return "***"
    if "@" in parts.path + parts.query + parts.fragment:
        return f"{parts.scheme}://***"  # a password with a / or ? in it, cut in the wrong place
    url = re.sub(r"(?<=[?&])(\w*password)=[^&#]*", r"\1=***", url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return url.replace(parts.netloc, f"{user.partition(':')[0]}:***@{host}", 1)

"""What a name may look like: DNS labels and subdomains, qualified names, label values, keys, port and variable names.

Each check returns the faults as the sentences Kubernetes users know (apimachinery's util/validation); none is fine.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Check = Callable[[str], list[str]]

_DNS1123_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS1123_SUBDOMAIN = rf"{_DNS1123_LABEL}(\.{_DNS1123_LABEL})*"
_DNS1035_LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED_NAME})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER_NAME = "[-A-Za-z0-9]+"

_DNS1123_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_DNS1123_LABEL}')"
)
_DNS1123_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_DNS1123_SUBDOMAIN}')"
)
_DNS1035_LABEL_WORDS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    f"'{_DNS1035_LABEL}')"
)
_QUALIFIED_NAME_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED_NAME}')"
)
_LABEL_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_LABEL_VALUE}')"
)
_CONFIG_KEY_WORDS = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{_CONFIG_KEY}')"
)

_is_dns1123_label = re.compile(_DNS1123_LABEL, re.ASCII).fullmatch
_is_dns1123_subdomain = re.compile(_DNS1123_SUBDOMAIN, re.ASCII).fullmatch
_is_dns1035_label = re.compile(_DNS1035_LABEL, re.ASCII).fullmatch
_is_qualified_name = re.compile(_QUALIFIED_NAME, re.ASCII).fullmatch
_is_label_value = re.compile(_LABEL_VALUE, re.ASCII).fullmatch
_is_config_key = re.compile(_CONFIG_KEY, re.ASCII).fullmatch
_is_header_name = re.compile(_HEADER_NAME, re.ASCII).fullmatch


def path_segment(name: str) -> list[str]:
    """One part of a path: what may stand in a URL between two slashes."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{sign}'" for sign in "/%" if sign in name]


def dns1123_label(name: str) -> list[str]:
    """One part of a DNS name: at most 63 lower-case characters."""
    return _spelt(name, 63, _is_dns1123_label, _DNS1123_LABEL_WORDS)


def dns1123_subdomain(name: str) -> list[str]:
    """Labels joined by dots: at most 253 characters."""
    return _spelt(name, 253, _is_dns1123_subdomain, _DNS1123_SUBDOMAIN_WORDS)


def fully_qualified_domain_name(name: str) -> list[str]:
    """A DNS name of two labels at least; the dot that may end it does not count."""
    faults = dns1123_subdomain(name.removesuffix("."))
    if not faults and "." not in name.removesuffix("."):
        return ["should be a domain with at least two segments separated by dots"]
    return faults


def dns1035_label(name: str) -> list[str]:
    """A DNS label that starts with a letter."""
    return _spelt(name, 63, _is_dns1035_label, _DNS1035_LABEL_WORDS)


def qualified_name(name: str) -> list[str]:
    """A label key or resource name: `name` or `dns.prefix/name`."""
    prefix, slash, base = name.rpartition("/")
    if "/" in prefix:
        return [
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS subdomain "
            "prefix and '/' (e.g. 'example.com/MyName')"
        ]
    faults = []
    if slash and not prefix:
        faults.append("prefix part must be non-empty")
    elif prefix:
        faults += [f"prefix part {fault}" for fault in dns1123_subdomain(prefix)]
    if not base:
        return [*faults, "name part must be non-empty"]
    faults += [f"name part {fault}" for fault in _at_most(base, 63)]
    return faults if _is_qualified_name(base) else [*faults, _QUALIFIED_NAME_WORDS]


def label_value(value: str) -> list[str]:
    """At most 63 characters; may be empty."""
    return _spelt(value, 63, _is_label_value, _LABEL_VALUE_WORDS)


def config_key(key: str) -> list[str]:
    """A key of a ConfigMap or Secret: a file name that stays in its directory."""
    faults = _spelt(key, 253, _is_config_key, _CONFIG_KEY_WORDS)
    if key in (".", ".."):
        faults.append(f"must not be '{key}'")
    elif key.startswith(".."):
        faults.append("must not start with '..'")
    return faults


def env_var_name(name: str) -> list[str]:
    """Any printable ASCII but '='."""
    if name and all(" " <= character <= "~" and character != "=" for character in name):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_name(name: str) -> list[str]:
    """An IANA service name: at most 15 lower-case characters, at least one a letter."""
    faults = _at_most(name, 15)
    if not re.fullmatch("[-a-z0-9]*", name, re.ASCII):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", name, re.ASCII):
        faults.append("must contain at least one letter (a-z)")
    if "--" in name:
        faults.append("must not contain consecutive hyphens")
    if name.startswith("-") or name.endswith("-"):
        faults.append("must not begin or end with a hyphen")
    return faults


def port_number(port: int) -> list[str]:
    return [] if 1 <= port <= 65535 else ["must be between 1 and 65535, inclusive"]


def http_header_name(name: str) -> list[str]:
    if _is_header_name(name):
        return []
    return [
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for "
        f"validation is '{_HEADER_NAME}')"
    ]


def _spelt(text: str, length: int, matches: Callable[[str], object], words: str) -> list[str]:
    """The faults of a text that has a longest length and one pattern; most texts have none."""
    matching = matches(text)
    if matching and len(text) <= length:
        return []
    return _at_most(text, length) if matching else [*_at_most(text, length), words]


def _at_most(text: str, length: int) -> list[str]:
    return [] if len(text) <= length else [f"must be no more than {length} characters"]

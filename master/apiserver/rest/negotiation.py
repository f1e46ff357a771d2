"""In which form an answer is wanted, by the Accept header: Kubernetes' content negotiation. Pure.

Barque speaks JSON and YAML. Clients that would rather have protobuf or CBOR also take JSON; a form of the object
(`as=Table`, `as=PartialObjectMetadata`) is taken where it is one that is served.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from barque.api.errors import ApiError

Form = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]

JSON, YAML = "application/json", "application/yaml"
_YAMLS = (YAML, "application/x-yaml", "text/yaml")
_FORMS = {"Table": ("v1", "v1beta1"), "PartialObjectMetadata": ("v1",), "PartialObjectMetadataList": ("v1",)}
_META_GROUP = "meta.k8s.io"
# No client sends more headers than these; others are parsed each time.
_KEPT = 256


class Accepted(NamedTuple):
    """`form` "" is the object itself; `version` is that of `meta.k8s.io` in which another form is wanted."""

    form: Form = ""
    version: str = "v1"
    yaml: bool = False

    @property
    def content_type(self) -> str:
        return YAML if self.yaml else JSON


@lru_cache(_KEPT)
def accepted(header: str) -> Accepted:
    """The first form of the header that is served; JSON where it says nothing. Raises 406."""
    if not header.strip():
        return Accepted()
    for media_type, parameters in clauses(header):
        if media_type not in ("*/*", "application/*", JSON, *_YAMLS) or parameters.get("q") == "0":
            continue
        form, version = parameters.get("as", ""), parameters.get("v", "v1")
        if form and (version not in _FORMS.get(form, ()) or parameters.get("g") != _META_GROUP):
            continue
        return Accepted(form, version, media_type in _YAMLS)  # type: ignore[arg-type]  # one of `_FORMS`
    raise ApiError(
        406, "NotAcceptable", f"only the following media types are accepted: {JSON}, {YAML}, application/json;as=Table"
    )


def clauses(header: str) -> list[tuple[str, dict[str, str]]]:
    """The media types of the header with their parameters, the most wanted first."""
    return sorted((_clause(text) for text in header.split(",")), key=_weight, reverse=True)


def _clause(text: str) -> tuple[str, dict[str, str]]:
    media_type, *parameters = (part.strip() for part in text.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return media_type.lower(), {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def _weight(clause: tuple[str, dict[str, str]]) -> float:
    try:
        return float(clause[1].get("q", "1"))
    except ValueError:
        return 0.0

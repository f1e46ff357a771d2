"""The hash that names a Deployment's ReplicaSets after their pod template."""

from __future__ import annotations

import hashlib

import msgspec

from barque.api.types.core_v1 import PodTemplateSpec

# Kubernetes' safe alphabet: no vowels, so no words; no 0, 1 and 3, which are read as letters.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_LENGTH = 10
_encoder = msgspec.json.Encoder(order="sorted")


def template_hash(template: PodTemplateSpec, collision_count: int | None) -> str:
    """Ten safe characters; the same for the same template and count on every machine and release.

    Unset fields are not part of it, so a field that a later release adds changes no hash until someone sets it.
    """
    data = _encoder.encode(template) + (b"" if collision_count is None else str(collision_count).encode())
    number = int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "big")
    characters = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)

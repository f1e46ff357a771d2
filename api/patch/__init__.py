"""Patches of JSON documents: JSON patch, merge patch, strategic merge patch. Server-side apply is `barque.api.apply`.

All functions are pure: documents and patches are plain JSON, and neither is ever changed. Sources: RFC 6902, RFC 7386,
and apimachinery's strategicpatch.
"""

from __future__ import annotations

from barque.api.patch.printed import printed
from barque.api.patch.rfc6902 import json_patch
from barque.api.patch.rfc7386 import merge_patch
from barque.api.patch.strategic import strategic_merge

__all__ = ["json_patch", "merge_patch", "printed", "strategic_merge"]

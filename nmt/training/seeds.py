"""Random numbers from (seed, update) alone, so that a resumed run draws what the uninterrupted one drew."""

from __future__ import annotations

import hashlib


def seed_of(seed: int, update: int) -> int:
    """The seed of one update: 63 bits of SHA-256, so that neighbouring updates share nothing."""
    digest = hashlib.sha256(f"{seed} {update}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

"""Seeds, each derived from what it is for."""

import hashlib


def derive_seed(*parts: object) -> int:
    """Derive a random seed from what it is for.

    Parameters
    ----------
    *parts : object
        Anything whose ``repr`` is stable: names, integers, tuples of them.

    Returns
    -------
    int
        Below 2**31, the same on every machine.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1

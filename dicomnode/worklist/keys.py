"""What is searched by: text made equal where people write it differently."""

import unicodedata


def storable(text: str) -> str:
    """Give text that both engines store: NUL and half surrogates become U+FFFD."""
    return (
        text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def search_key(text: str, length: int = 200) -> str:
    """Give text as it is searched: NFKC, case-folded, ``^`` and ``=`` and runs of space as one."""
    folded = unicodedata.normalize("NFKC", storable(text)).casefold()
    return " ".join(folded.replace("^", " ").replace("=", " ").split())[:length]


def prefix_end(key: str) -> str:
    """Give the first text, in order of code points, that no text with this prefix reaches."""
    cut = key.rstrip("\U0010ffff")
    if not cut:
        return "\U0010ffff"
    after = ord(cut[-1]) + 1
    # Surrogates are no characters: neither engine stores them.
    return cut[:-1] + chr(0xE000 if 0xD800 <= after <= 0xDFFF else after)

"""How this node names itself as the maker of a result (PS3.3 C.7.5.1)."""

from typing import Final

MANUFACTURER: Final = "dicomnode"
MODEL_NAME: Final = "dicomnode"

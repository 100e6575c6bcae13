"""Pictures of evaluated episodes: animations, and sheets for papers, drawn with Pillow."""

from __future__ import annotations

from typing import Final

# Formats, by the ends of files' names; what writes them takes longer to import.
VIDEO_SUFFIXES: Final = (".webp", ".gif", ".mp4")
STILL_SUFFIXES: Final = (".png",)

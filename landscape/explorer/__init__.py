"""Interactive pages of surfaces: one HTML file that also works offline; nothing here loads torch."""

from landscape.explorer.pages import explore

__all__ = ["explore"]

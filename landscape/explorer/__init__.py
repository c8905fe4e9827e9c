"""Surfaces in the browser: numpy in, one HTML file out that needs no network; nothing here loads torch."""

from landscape.explorer.pages import explore, plot_path_html

__all__ = ["explore", "plot_path_html"]

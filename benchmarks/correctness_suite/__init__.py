"""Questions with exact answers that are put to several tools through one protocol."""

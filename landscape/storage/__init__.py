"""Files: whether a kept result serves, names that stay in their folder, contents that are checked when they are read,
locks. Nothing here is trusted because this toolkit may have written it."""

from landscape.storage.caching import cached

__all__ = ["cached"]

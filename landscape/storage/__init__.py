"""Files: reuse of stored results, names that stay in their folder, checked contents, locks.

No file is trusted, not even one that this toolkit seems to have written.
"""

from landscape.storage.caching import cached

__all__ = ["cached"]

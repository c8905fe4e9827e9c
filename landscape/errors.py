"""The one exception for input that a person can mend."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Input that cannot be used; the message is one line that says what to do.

    Scripts print the message and end with exit code 2; every other exception is a defect and keeps its
    traceback.
    """

"""The exception for input that the user can correct."""

__all__ = ["InputError", "InputTypeError"]


class InputError(ValueError):
    """Input that cannot be used; the message is one line that says what to do.

    Scripts print the message and end with exit code 2; every other exception is a defect and keeps its
    traceback.
    """


class InputTypeError(InputError, TypeError):
    """An argument of a wrong type; caught as either."""

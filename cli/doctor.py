"""`lutern doctor`."""


def doctor() -> None:
    """Say what is installed, what it is for, and how to get what is missing."""

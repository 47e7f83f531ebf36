"""The one exception a user is meant to read."""


class DeSTSegError(ValueError):
    """A mistake the caller can mend; the message names it and says what to do.

    The command line prints the message and exits with status 2, never a traceback.
    """

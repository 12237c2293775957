"""The one exception for mistakes that a user can fix."""


class ReplicationError(Exception):
    """What was wrong, the value, what is allowed and the next step, in one sentence.

    The command line prints it without a traceback and exits with 2.
    """

"""Errors a user can mend."""


class InputError(ValueError):
    """Bad input: one line that says what, where, what is allowed, what was found and the way out.

    The command line and the stages print that line and exit with 2; any other exception keeps its traceback.
    """

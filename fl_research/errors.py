"""The one error that wrong input raises."""


class InputError(ValueError):
    """Wrong input: one line that names the argument, its value and the way out.

    Experiment binaries print it without a traceback and exit with code 2.
    """

"""The one exception that means "the input is at fault": it carries one line for a person.

A subclass of ``ValueError``, so that library users can catch either. The command line prints it and exits 2.
"""


class InputError(ValueError):
    """Bad input: one line that says what was wrong, where, and how to mend it."""

"""The errors a person can do something about: expected, got, what to do."""


class SubcamError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback."""


class BadInputError(SubcamError):
    """One file or row that cannot be used. The message names it, what was expected and what to do."""


class CheckpointError(SubcamError):
    """A file of weights that does not fit: wrong format, or keys or shapes that do not match (all are listed)."""


class SettingsError(SubcamError):
    """Settings that contradict each other or the data."""


class MethodError(SubcamError):
    """Somebody's method that raised or returned something else than it should. The message names it and the image."""


class RunFolderError(SubcamError):
    """The run folder cannot be used: locked by another run, read-only, or full."""

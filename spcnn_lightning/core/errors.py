"""The exception classes of the project: what a caller may want to catch."""

from __future__ import annotations


class SpcnnError(Exception):
    """Base of every error that this project defines."""


class BackendUnsupportedError(SpcnnError):
    """No backend, or not the named one, can do what was asked; the message gives each reason."""


class BackendNotFoundError(SpcnnError, ValueError):
    """A backend name that nothing is registered under; the message lists the known names."""


class DataError(SpcnnError, ValueError):
    """Missing, damaged or inconsistent data; the message names the file and the place in it."""


class MissingExtraError(SpcnnError, ImportError):
    """An optional dependency is needed and not installed; the message names the extra."""

"""The one tree of exceptions for what goes wrong at run time.

A bad setting is a ``SettingsError`` (also a ``ValueError``); a broken promise of our own code is an
``assert``. Everything else that this project raises on purpose descends from ``StreamRecError``.
"""

from __future__ import annotations


class StreamRecError(Exception):
    """Root of every error that stream_rec raises on purpose."""

    exit_code = 1


class SettingsError(StreamRecError, ValueError):
    """A setting is unknown or has a value that is not allowed; the text names key, value and what is allowed."""

    exit_code = 2


class InputFileError(StreamRecError):
    """A recorded log or catalogue cannot be read; the text names the file, the column and what was expected."""

    exit_code = 3


class BrokerError(StreamRecError):
    """Kafka cannot be reached or refuses what is needed; the text names the servers or the topic."""

    exit_code = 4


class FencedError(BrokerError):
    """Another worker with the same transactional id has taken over: this one must stop and touch nothing more."""

    exit_code = 5


class RebalancedError(BrokerError):
    """The group was rebalanced between poll and commit: nothing of the transaction has become visible.

    The caller publishes again, without the records of the partitions that it no longer owns.
    """


class SnapshotError(StreamRecError):
    """A snapshot cannot be written or none that verifies can be read; the text names the directory and why."""

    exit_code = 6

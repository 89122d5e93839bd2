"""A child process that bounds the time and the memory that one image may take."""

from __future__ import annotations

from colorize.imaging.sandbox.careful import Careful, Sandbox, watchdog
from colorize.imaging.sandbox.child import START_SECONDS
from colorize.imaging.sandbox.faults import Fault, fault_of, known_fault
from colorize.imaging.sandbox.memory import COEFFICIENT_BYTES, may_exceed

__all__ = [
    "COEFFICIENT_BYTES",
    "START_SECONDS",
    "Careful",
    "Fault",
    "Sandbox",
    "fault_of",
    "known_fault",
    "may_exceed",
    "watchdog",
]

"""Limits on time and memory per image, with child processes."""

from __future__ import annotations

from colorize.imaging.sandbox.child import START_SECONDS
from colorize.imaging.sandbox.faults import Fault, fault_of, known_fault
from colorize.imaging.sandbox.guarded import Guarded, Sandbox
from colorize.imaging.sandbox.memory import decoding_may_exceed, is_plain, may_exceed

__all__ = [
    "START_SECONDS",
    "Fault",
    "Guarded",
    "Sandbox",
    "decoding_may_exceed",
    "fault_of",
    "is_plain",
    "known_fault",
    "may_exceed",
]

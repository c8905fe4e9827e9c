"""The exact-answer suite that users run on their own machine and device."""

from landscape.selftest.run import SelfTest, selftest
from landscape.selftest.subject import TOOLKIT, Toolkit

__all__ = ["TOOLKIT", "SelfTest", "Toolkit", "selftest"]

"""The company's listening service: two years, sixty experiments, and all of it written down (METHODS I2 in full)."""

from stats.company.listening.generator import Listening, Truth, generate

__all__ = ["Listening", "Truth", "generate"]

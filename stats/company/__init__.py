"""A synthetic company with a known truth: one seeded generator behind demo, tests and docs (METHODS I2)."""

from stats.company.generator import Company, ExperimentRecord, LaunchRecord, generate

__all__ = ["Company", "ExperimentRecord", "LaunchRecord", "generate"]

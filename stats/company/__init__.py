"""A synthetic company with a known truth: one seeded generator behind demo, tests and docs (METHODS I2)."""

from stats.company.business import Business
from stats.company.generator import Company, generate
from stats.company.records import ExperimentRecord, LaunchRecord, SeriesRecord

__all__ = ["Business", "Company", "ExperimentRecord", "LaunchRecord", "SeriesRecord", "generate"]

"""Compiled models for the analyses of one worker: a process that samples, one that compiles, a folder of bundles."""

"""What things are: definitions, lifecycle, plans, verdicts, decisions. No HTTP, no queue, no engine SQL."""

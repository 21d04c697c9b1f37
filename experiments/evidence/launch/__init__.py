"""From the plan of a launch and its series to the document: what happened, what would have, how much to believe it."""

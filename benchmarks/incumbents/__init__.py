"""Other engines on the inputs of our benchmark, each in an environment of its own."""

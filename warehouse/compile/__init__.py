"""Plans as relational statements: built once as expressions, rendered for the engine that runs them."""

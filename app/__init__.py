"""The faces of Northlift: REST API, pages, charts, command line."""

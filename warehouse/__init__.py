"""Where data is: fact sources, the ingest store, plans compiled to queries, moments."""

"""The ledger: reconciling what was claimed of launches with what the North Star did (METHODS F6 to F8)."""

"""Reports that can be mailed: one document of blocks, written as HTML without scripts or as PDF."""

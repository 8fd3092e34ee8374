"""Model files on disk, where they come from, and which of them are loaded."""

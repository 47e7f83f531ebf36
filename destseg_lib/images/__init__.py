"""Files to uint8 arrays: reading, folders, loading, downloads."""

"""Where files come from and where they go: local folders, object storage, VOD."""

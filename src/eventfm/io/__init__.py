"""Files to events and tracks."""

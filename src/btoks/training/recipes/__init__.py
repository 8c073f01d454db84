"""The recipes that come along, a file each."""

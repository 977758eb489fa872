"""The commands: one file each, loaded when its word is given."""

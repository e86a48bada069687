"""The commands that need no training framework, one file each: parse, call one thing, print."""

"""The command `lutern`: parse, call, print."""

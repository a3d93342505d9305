"""The one exception that Lutern raises for anything a user can mend."""


class LuternError(Exception):
    """One clear sentence: what was given, what is wanted, what to do."""

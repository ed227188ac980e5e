"""Owners and identities where all belongs to one id: noted, and told, by a supervisor."""

"""The functions that expressions of a bake file may call, a module a kind."""

"""How values are written down: the one room below all others. Imports nothing of ours."""

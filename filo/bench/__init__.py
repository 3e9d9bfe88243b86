"""How much faster this program is than the plain way to the same numbers (`python -m filo.bench`)."""

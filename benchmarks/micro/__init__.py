"""How long the parts of skipml take on one thread; each test notes the microseconds per box, row, block or query."""

"""Training: one loop for every system (fit), its recipes (recipe), its batches (data)."""

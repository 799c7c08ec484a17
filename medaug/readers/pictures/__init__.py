"""Ready-made pictures, one lesion each or several marked on them."""

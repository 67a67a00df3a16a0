"""MobileNet v1, its weights, and its training."""

"""Datasets and their parts, decoding, preprocessing with its cache, augmentation, and batches."""

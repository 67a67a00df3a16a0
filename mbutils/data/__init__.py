"""Where images come from, parts and copies, decoding, cache, augmentation, batches."""

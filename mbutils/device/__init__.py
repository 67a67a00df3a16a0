"""What a model takes on a device: memory plan, footprint, latency; and the published tables."""

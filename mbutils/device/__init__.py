"""What a model needs on a device: memory plan, footprint, latency; and the published tables."""

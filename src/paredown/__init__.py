"""paredown: the smallest model that still meets the accuracy you need."""

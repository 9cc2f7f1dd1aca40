"""What happens during training."""

"""Events to tensors."""

"""Dense heads: the maps of a backbone's `pyramid` in, one map of logits or flow out."""

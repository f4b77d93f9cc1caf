"""Arrays to pictures: uint8 RGB (H, W, 3), or matplotlib figures that no global state knows of."""

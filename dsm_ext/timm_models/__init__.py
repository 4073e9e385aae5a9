"""timm's models: which are supported, making them, loading their weights, and converting them."""

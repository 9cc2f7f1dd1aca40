"""One layer as a product of smaller ones."""

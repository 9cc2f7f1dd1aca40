"""What a network costs, counted on its traced graph."""

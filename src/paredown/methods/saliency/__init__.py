"""How much each single weight matters."""

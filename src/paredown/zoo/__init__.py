"""Small architectures, one file per family; a function's name is the model's id."""

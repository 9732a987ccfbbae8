"""Networks, and the models that train and apply them."""

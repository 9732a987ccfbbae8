"""Networks, losses and training steps, and how a trained network is built again, exported and used.

Belongs here: everything that computes with weights. Does not: the training loop (`training`).
"""

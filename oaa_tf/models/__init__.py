"""Networks, losses and training steps, and what rebuilds, exports and applies a trained network.

Belongs here: everything that computes with weights. Belongs elsewhere: the training loop (`training`).
"""

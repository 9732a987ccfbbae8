"""Output for people: the report page, pictures, plots and colors.

Belongs here: drawing and layout. Does not: measuring (`oaa_tf.metrics`) and training.
"""

"""Output for people: the report page, pictures, plots and colors.

Belongs here: drawing and layout. Belongs elsewhere: measuring (`oaa_tf.metrics`) and training.
"""

"""From the user's photos to batches of augmented views.

Belongs here: formats, image files, records and views, each in a room of its own. Belongs elsewhere: attention,
networks, labels that the project makes.
"""

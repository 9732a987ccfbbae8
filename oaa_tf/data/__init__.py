"""From the user's photos to batches of augmented views.

Belongs here: formats, image files, records and views, each in a room of its own. Belongs elsewhere: attention,
networks, labels that the project makes.
"""

from oaa_tf import public_names

__all__, __getattr__, __dir__ = public_names(
    __name__,
    {
        "RecordSet": "records.record_set",
        "ViewOptions": "views.view_options",
        "frame_batches": "views.input_pipeline",
        "segmentation_targets": "views.targets",
        "training_batches": "views.input_pipeline",
    },
)

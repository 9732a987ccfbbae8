"""`python -m tools.make_records --voc_dir=DIR --output_dir=DIR`: see `oaa_tf.make_records`."""

from oaa_tf import make_records
from oaa_tf.launch import launch

if __name__ == "__main__":
    launch(
        make_records.MakeRecordsSettings,
        make_records.run,
        "make_records",
        "turns a folder of images with labels into TFRecords",
        make_records.plan,
    )

from oaa_tf.command_line.dry_run import dry_run_text


def test_what_a_dry_run_has_found_in_columns():
    found = {
        "state": "to do",
        "images_by_canvas": {"96x64": 1200, "64x96": 3},
        "epochs": 12.3456,
        "steps": 30_000,
        "table_bytes": 24_300_000,
        "memory_bytes": 3_210_000_000,
        "num_files": 4,
        "step_seconds": 0.314,
        "training_seconds": {"a": 90.0, "b": 7200.0},
        "seed": None,
        "downloads": [],
        "writes": ["a", "b"],
    }
    assert dry_run_text(found).splitlines() == [
        "state:            to do",
        "images by canvas: 96x64: 1,200",
        "                  64x96: 3",
        "epochs:           12.35",
        "steps:            30,000",
        "table:            24.30 MB",
        "memory:           3.21 GB",
        "files:            4",
        "step:             about 0.31 s",
        "training:         a: about 1.5 min",
        "                  b: about 120 min",
        "seed:             not known",
        "downloads:        -",
        "writes:           a",
        "                  b",
    ]

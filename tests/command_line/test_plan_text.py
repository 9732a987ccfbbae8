from oaa_tf.command_line.plan_text import plan_text


def test_a_plan_in_columns():
    plan = {
        "state": "to do",
        "images_by_canvas": {"96x64": 1200, "64x96": 3},
        "epochs": 12.3456,
        "steps": 30_000,
        "table_bytes": 24_300_000,
        "memory_bytes": 3_210_000_000,
        "step_seconds": 0.1234,
        "map_seconds": 119.0,
        "training_seconds": 150.0,
        "all_seconds": 72_000.0,
        "seed": None,
        "downloads": [],
        "writes": ["a", "b"],
    }
    assert plan_text(plan).splitlines() == [
        "state:            to do",
        "images by canvas: 96x64: 1,200",
        "                  64x96: 3",
        "epochs:           12.35",
        "steps:            30,000",
        "table:            24.30 MB",
        "memory:           3.21 GB",
        "step:             about 0.12 s",
        "map:              about 1.2e+02 s",
        "training:         about 2.5 min",
        "all:              about 20 h",
        "seed:             not known",
        "downloads:        -",
        "writes:           a",
        "                  b",
    ]

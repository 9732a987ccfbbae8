"""`python -m tools.make_report --work_dir=DIR`: see `oaa_tf.make_report`."""

from oaa_tf import make_report
from oaa_tf.launch import launch

if __name__ == "__main__":
    launch(
        make_report.MakeReportSettings,
        make_report.run,
        "make_report",
        "writes one page about a run, report.html",
        make_report.plan,
    )

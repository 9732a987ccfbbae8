"""`python -m tools.make_report`: the command `oaa_tf.make_report`, where the other tools are."""

import runpy

if __name__ == "__main__":
    runpy.run_module("oaa_tf.make_report", run_name="__main__", alter_sys=True)

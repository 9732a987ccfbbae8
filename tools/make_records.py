"""`python -m tools.make_records`: the command `oaa_tf.make_records`, where the other tools are."""

import runpy

if __name__ == "__main__":
    runpy.run_module("oaa_tf.make_records", run_name="__main__", alter_sys=True)

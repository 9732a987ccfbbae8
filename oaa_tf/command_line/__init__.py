"""From a command line to checked settings, and from an exception to one line and an exit code.

Belongs here: flags, presets, help, progress and the error boundary. Belongs elsewhere: anything that knows images,
files of a run, or networks.
"""

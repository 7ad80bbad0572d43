"""Where quality curves come from: measure language models, or estimate from samples that exist
already. See README.md beside this file.

Importing any module here needs the core's dependencies alone; what an engine or a data set needs
more is imported when it is used, and a missing package names the command that installs it.
"""

"""The road: its stations in order, and what they need of one another.

The only package that knows all stations; `medaug.pipeline` decides which of them run.
"""

"""A search for given names and numbers in a folder, so that an officer need not take our word.

- `needles.needles_of` writes a marker in every form it may hide in.
- `matching.Matcher` finds many needles in a stream, whatever the pieces it comes in.
- `unpacking.parts_of` opens what a file holds: archives, compressed arrays, chunks, attributes.
- `folder.scan` walks a folder and says what was found, and what could not be searched.

No torch, no network, nothing written but temporary files.
"""

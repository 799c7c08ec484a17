"""Can a radiologist tell synthetic patches from real ones? A blinded reading, offline.

`deck` deals the patches, `picture` makes them alike in all but what they show, `kit` writes a page
that a reader clicks through and a key that is kept apart, `answers` reads what comes back and
`scoring` says how often the readers were right.

The set holds patches of real patients, and its pixels cannot carry the mark of a synthetic picture
without giving the answer away: it stays inside the hospital, and says so.
"""

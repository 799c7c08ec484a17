"""A generator that leaves: on what grounds, and in which form.

A release is samples. Its generator can be asked again without end, and may remember patients whom
no sample of the release shows. It leaves only where its privacy cost is finite, or where the
policy of the run says so in words (`shared`). Needs no torch.
"""

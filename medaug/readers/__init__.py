"""Files of a hospital → cases: a volume that decodes lazily, its lesions, and nobody's name.

Identifiers stop here. What leaves this station carries tokens made with a key of the site
(`identity`), never a Patient ID, a UID or a text that a file contained.

Public functions::

    source.scan(sources, root, site_key)  ->  Source: its inventory, and the cases one at a time
    guess.guess_sources(root)             ->  settings for a folder that nobody has described
    identity.load_site_key(path)          ->  the site's key, made on first use

Example::

    sources = guess_sources(folder)
    source = scan(sources, folder, load_site_key())
    print(source.inventory.document()["classes"])
    for case in source.cases():
        voxels = case.volume.read(case.lesions[0].box)
"""

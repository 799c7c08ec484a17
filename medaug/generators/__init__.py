"""Learn a generator from the lesion patches of the training patients, and draw from it.

`training.train_generator` takes a `PatchSet` and `settings.GeneratorSettings`, leaves a folder
with weights (safetensors), `config.json` and `training.jsonl`, and returns a
`trained.TrainedGenerator`; `trained.load_generator` opens such a folder again. The generator is
a `medaug.domain.Sampler`: it hands out float patches in the unit it was trained in, and the
privacy gate decides whether any of them may leave::

    settings = GeneratorSettings(window=(-100, 250), images=30_000)
    generator = train_generator(split.part(patches, "training"), settings, seed=1, folder=folder)
    generator.sample("cyst", seeds=range(16))     # (16, 1, 64, 64) float32, HU

With ``outputs=("image", "mask")`` the generator draws the lesion's mask too: ``generator.draw``
gives both.

The folder of a generator holds patient tokens and stays where the patients' data are.
"""

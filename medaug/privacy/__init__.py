"""The privacy gate: between a trained generator and anything that leaves.

- `gate.review` draws candidates, checks them, replaces those it turns away, and ends in a `Review`
  that holds a `Release` or the reasons why there is none.
- `copies.CopyDetector` scores patches by their likeness to training patches; its limit comes from
  real patients who were not trained on.
- `duplicates.closest_pair` finds samples that are the same picture.
- `claims` holds every sentence that may be said about a release, and the words that may not.

::

    verdict = review(generator, settings.policy(), training=..., calibration=..., rescale=...,
                     window=..., mm_per_pixel=1.0, seed=0)
    release = verdict.release_or_raise()

What it does not promise: the checks see training data, so there is no differential privacy, and
a release without copies may still betray who was in the training part.
"""

"""Do the synthetic patches help a classifier on real patients nobody has seen?

`protocol.evaluate` trains the same classifiers, for the same number of optimiser steps, on
several diets ("arms", of which `policies` says what each is made of; by default real;
real+classical; real+gan; real+classical+gan; gan) and scores every one on a `HeldOut`: real
patches of patients that neither the classifier nor the generator saw.
Intervals come from resampling patients and from the spread between seeds (`statistics`), the
arms are compared in pairs with Holm's correction (`comparison`), and the outcome is one of three
words: helps, no evidence, hurts. ``Evaluation.document()`` is what ``evaluation.json`` holds.

::

    from medaug.domain import HeldOut, Window
    from medaug.evaluation.protocol import evaluate
    from medaug.evaluation.settings import EvaluationSettings

    test = HeldOut(split.part(patches, "test"), lineage=(generator.record,))
    evaluation = evaluate(training, tuning, test, release, EvaluationSettings(),
                          Window(-100, 200), seed=0, folder=run / "evaluation")
    print(evaluation.verdict.sentence)
"""

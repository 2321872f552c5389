"""Post-hoc methods for image classifiers, from pytorch-ood, on a linear classifier of the image tower's features.

The paper runs them on a CLIP image tower; so do we: a logistic regression learns from the same few labelled images as
the prompts, on the image features that are compared with texts. With known classes hidden (see `combination`), these
served better than the longer features before the projection, for all but ASH, which needs rectified ones. pytorch-ood's
scores are higher for OOD: their signs are turned here.
"""

from __future__ import annotations

from collections.abc import Callable

from pytorch_ood.detector import ASH, KNN, ODIN, EnergyBased, GradNorm, Mahalanobis, MaxLogit, MaxSoftmax, NNGuide, ViM

from benchmarks.harness.classifier import Classifier
from benchmarks.harness.images import Scorer
from benchmarks.harness.setting import Setting

NEIGHBOURS = 10
ODIN_STEP = 0.05  # of the features' standard deviation


def on_logits(detector: type) -> Callable[[Setting], Scorer]:
    """A method that needs the classifier's logits only."""

    def fit(setting: Setting) -> Scorer:
        classifier = setting.classifier
        return lambda images: -detector(None).predict_logits(classifier.logits(images.embedding))

    return fit


msp, max_logit, energy = on_logits(MaxSoftmax), on_logits(MaxLogit), on_logits(EnergyBased)


def odin(setting: Setting) -> Scorer:
    """ODIN, its perturbation on the features instead of the pixels, which would cost a run of the image tower each."""
    classifier = setting.classifier
    method = ODIN(classifier.linear, eps=ODIN_STEP * float(classifier.features.std()))
    return lambda images: -method.predict(classifier.read(images.embedding)).detach()


def grad_norm(setting: Setting) -> Scorer:
    """GradNorm on the classifier's weights."""
    classifier = setting.classifier
    method = GradNorm(classifier.linear, param_filter=lambda name: "weight" in name).to("cpu")
    return lambda images: -method.predict(classifier.read(images.embedding))


def ash(setting: Setting) -> Scorer:
    """ASH-S with energy, on the features before the projection."""
    classifier = Classifier(setting.learned.penultimate, setting.learned.labels)
    method = ASH(lambda x: x[:, :, None, None], lambda x: classifier.linear(x.flatten(1)))
    return lambda images: -method.predict(classifier.read(images.penultimate))


def vim(setting: Setting) -> Scorer:
    """ViM; its principal space has one dimension for every ten images, as far as half of the features'."""
    classifier = setting.classifier
    dims = max(len(setting.class_names), min(classifier.features.shape[1] // 2, len(classifier.features) // 10))
    method = ViM(None, d=dims, w=classifier.linear.weight, b=classifier.linear.bias)
    method.fit_features(classifier.features, classifier.labels)
    return lambda images: -method.predict_features(classifier.read(images.embedding))


def knn(setting: Setting) -> Scorer:
    """Distance to the tenth neighbour, features normalised."""
    classifier = setting.classifier
    method = KNN(None, k=min(NEIGHBOURS, len(classifier.features))).fit_features(classifier.features, classifier.labels)
    return lambda images: -method.predict_features(classifier.read(images.embedding))


def nn_guide(setting: Setting) -> Scorer:
    """Nearest neighbour guidance."""
    classifier = setting.classifier
    method = NNGuide(None, classifier.linear, k=min(NEIGHBOURS, len(classifier.features)))
    method.fit_features(classifier.features, classifier.labels)
    return lambda images: -method.predict_features(classifier.read(images.embedding))


def mahalanobis(setting: Setting) -> Scorer:
    """Distance to the nearest class mean under a shared covariance."""
    images = setting.learned
    method = Mahalanobis(None).fit_features(images.embedding, images.labels)
    return lambda images: -method.predict_features(images.embedding)

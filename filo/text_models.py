"""How an image feature is told normal from anomalous by the texts of an ensemble (FADE, section 3.2)."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from filo.errors import InputError

Kind = Literal["average", "softmax", "max", "lr", "mlp", "knn", "rf", "gmm", "xgboost"]
SCALE = 100.0  # what cosines are multiplied by
STATE = 42  # of everything that is fitted
COMPONENTS, KEPT_VARIANCE = 10, 0.9  # of the Gaussian mixtures
NEIGHBOURS = 5

TextModel = Callable[[Tensor], Tensor]


def fit_text_model(kind: Kind, embeddings: Tensor, labels: Tensor) -> TextModel:
    """Make a function that gives the probability of an anomaly, (..,) float64, of unit features (.., D).

    `average` compares with the mean of each side, not normalised again, `softmax` with every text, `max` with
    the most similar one of each side; the others are classifiers that are fitted to the texts.

    Shape:
        embeddings: (n, D), L2-normalised, float64
        labels: (n,), 0 normal and 1 abnormal

    Raises:
        InputError: there is no such model, its package is not installed, or there are too few texts for it.
    """
    if kind not in get_args(Kind):
        raise InputError(f"text_model_type {kind!r}: wanted one of {', '.join(get_args(Kind))}")
    if kind in ("average", "softmax", "max"):
        return _compare(kind, embeddings, labels.bool())
    texts, truth = embeddings.cpu().numpy(), labels.cpu().numpy()
    classifier = _make_classifier(kind)
    try:
        with np.errstate(invalid="ignore"):  # a variance of one text
            classifier.fit(texts, truth).predict_proba(texts[:1])  # some say only then that texts are too few
    except ValueError as error:
        raise InputError(
            f"text_model_type {kind} cannot be fitted to {sum(truth == 0)} normal and {sum(truth == 1)} "
            f"abnormal texts ({error}): give larger ensembles, or choose average, softmax or max"
        ) from error

    def model(features: Tensor) -> Tensor:
        flat = features.double().flatten(0, -2).cpu().numpy()
        found = torch.from_numpy(np.asarray(classifier.predict_proba(flat)[:, 1], np.float64))
        return found.view(features.shape[:-1]).to(features.device)

    return model


def _compare(kind: str, embeddings: Tensor, is_abnormal: Tensor) -> TextModel:
    means = torch.stack([embeddings[~is_abnormal].mean(0), embeddings[is_abnormal].mean(0)])

    def average(features: Tensor) -> Tensor:
        return (SCALE * features.double() @ means.to(features.device).T).softmax(-1)[..., 1]

    def softmax(features: Tensor) -> Tensor:
        alike = SCALE * features.double() @ embeddings.to(features.device).T
        return alike.softmax(-1)[..., is_abnormal.to(features.device)].sum(-1)

    def highest(features: Tensor) -> Tensor:
        alike = SCALE * features.double() @ embeddings.to(features.device).T
        abnormal = is_abnormal.to(features.device)
        sides = [alike[..., ~abnormal].amax(-1), alike[..., abnormal].amax(-1)]
        return torch.stack(sides, dim=-1).softmax(-1)[..., 1]

    return {"average": average, "softmax": softmax, "max": highest}[kind]


def _make_classifier(kind: str):
    # imported here, as they take seconds and the usual models need none of them
    if kind == "lr":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(solver="liblinear", C=1.0, random_state=STATE)
    if kind == "mlp":
        from sklearn.neural_network import MLPClassifier

        layers = {"hidden_layer_sizes": (640,), "max_iter": 200, "early_stopping": True}
        return MLPClassifier(random_state=STATE, **layers)
    if kind == "knn":
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(n_neighbors=NEIGHBOURS, metric="cosine", weights="distance")
    if kind == "rf":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(random_state=STATE)
    if kind == "gmm":
        return _Mixtures()
    try:
        from xgboost import XGBClassifier
    except ImportError as error:
        raise InputError(
            "text_model_type xgboost needs a package that is not installed: pip install xgboost"
        ) from error
    return XGBClassifier(random_state=STATE)


class _Mixtures:
    """One mixture of Gaussians for each side, after its own projection; a classifier as scikit-learn's."""

    def fit(self, texts: np.ndarray, labels: np.ndarray) -> "_Mixtures":
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture
        from sklearn.pipeline import make_pipeline

        self.sides = []
        for side in (0, 1):
            reduce = PCA(n_components=KEPT_VARIANCE, random_state=STATE)
            mixture = GaussianMixture(COMPONENTS, covariance_type="spherical", random_state=STATE)
            self.sides.append(make_pipeline(reduce, mixture).fit(texts[labels == side]))
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        return softmax(np.stack([side.score_samples(features) for side in self.sides], axis=1), axis=1)

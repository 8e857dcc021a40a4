"""Loss terms; importing the package registers every term in it."""

from gqst import registry
from gqst.losses.adversarial import R1, Adversarial, AdversarialDiscriminator
from gqst.losses.base import TERMS, Activations, Context, Logits, Term, build, total
from gqst.losses.consistency import L1, Cycle, Identity, TotalVariation
from gqst.losses.contrastive import PatchNCE
from gqst.losses.perceptual import LPIPS, Content, DiscriminatorPerceptual, Style
from gqst.losses.quality import AskedStructure, Quality

registry.import_members(__name__, __path__)

__all__ = [
    "L1",
    "LPIPS",
    "R1",
    "TERMS",
    "Activations",
    "Adversarial",
    "AdversarialDiscriminator",
    "AskedStructure",
    "Content",
    "Context",
    "Cycle",
    "DiscriminatorPerceptual",
    "Identity",
    "Logits",
    "PatchNCE",
    "Quality",
    "Style",
    "Term",
    "TotalVariation",
    "build",
    "total",
]

"""The claim of Patchification scaling.

What the paper says, and a small version of it that can fail. A scaffold: models/claims/harness.py says how
arms, scores per item and expectations are declared; set the bars before you measure.
"""

from models.claims import Lab, MissingData


def measure(lab: Lab):
    """-> the Claim that `conclude` makes; until then there is none."""
    raise MissingData("this claim is not written yet: models/papers/patchification/claim.py")

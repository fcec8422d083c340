"""SentenceVAE: a clause goes into one vector, a language model predicts the next vector (arXiv 2408.00655)."""

NETWORKS = {"ClauseCoder": "network"}

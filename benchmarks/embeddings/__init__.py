"""Linear heads over stored embeddings: what each kind of metadata lets them skip."""

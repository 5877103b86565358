"""How networks learn: shared by the classifier, AffinityNet and segmentation."""

"""Image corpora: ImageNet as distributed, and folders of classes."""

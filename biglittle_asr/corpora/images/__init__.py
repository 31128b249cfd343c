"""Image corpora: ImageNet as it is distributed, and folders of classes."""

"""What a net is trained for."""

from resnet_lab.tasks.classification import Classification
from resnet_lab.tasks.detection import Detection
from resnet_lab.tasks.localization import Localization
from resnet_lab.tasks.segmentation import Segmentation

__all__ = ["Classification", "Detection", "Localization", "Segmentation"]

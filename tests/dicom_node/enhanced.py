"""A classic series as one multi-frame object."""

from collections.abc import Sequence
from copy import deepcopy

from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

_PER_FRAME = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RepetitionTime", "EchoTime")


def item(**values: object) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return [dataset]


def make_enhanced(
    series: Sequence[Dataset], rescale: Sequence[tuple[float, float]] = ((1.0, 0.0),)
) -> Dataset:
    """Frames in the order given; `rescale` (slope, intercept) is one for all frames or one for each."""
    first = series[0]
    enhanced = deepcopy(first)
    enhanced.SOPClassUID = enhanced.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    enhanced.NumberOfFrames = len(series)
    enhanced.PixelData = b"".join(dataset.PixelData for dataset in series)
    for keyword in (*_PER_FRAME, "RescaleSlope", "RescaleIntercept"):
        enhanced.pop(keyword, None)
    transformations = [
        item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US") for slope, intercept in rescale
    ]
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence = item(RepetitionTime=float(first.RepetitionTime))
    shared.MREchoSequence = item(EffectiveEchoTime=float(first.EchoTime))
    if len(transformations) == 1:
        shared.PixelValueTransformationSequence = transformations[0]
    enhanced.SharedFunctionalGroupsSequence = [shared]
    enhanced.PerFrameFunctionalGroupsSequence = []
    for number, dataset in enumerate(series, start=1):
        frame = Dataset()
        frame.PixelMeasuresSequence = item(PixelSpacing=dataset.PixelSpacing)
        frame.PlaneOrientationSequence = item(ImageOrientationPatient=dataset.ImageOrientationPatient)
        frame.PlanePositionSequence = item(ImagePositionPatient=dataset.ImagePositionPatient)
        frame.FrameContentSequence = item(StackID="1", InStackPositionNumber=number)
        if len(transformations) > 1:
            frame.PixelValueTransformationSequence = transformations[number - 1]
        enhanced.PerFrameFunctionalGroupsSequence.append(frame)
    return enhanced

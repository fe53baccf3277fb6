"""DICOM whole slide images."""

from wsistore.slides.dicom.associated import read_associated
from wsistore.slides.dicom.discovery import Found, instances_in, series_in
from wsistore.slides.dicom.reader import DicomReader

__all__ = ["DicomReader", "Found", "instances_in", "read_associated", "series_in"]

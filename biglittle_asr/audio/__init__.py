"""Reading audio: file formats, NIST SPHERE, resampling."""

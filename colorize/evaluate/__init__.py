"""Measuring models on color pictures: made grey, colored as in use, compared with the truth."""

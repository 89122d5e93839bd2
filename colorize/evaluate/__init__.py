"""Measuring models on color images: made grey, colored as in use, compared with the truth."""

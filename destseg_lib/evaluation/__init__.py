"""A trained model on images: scores, metrics, tables, predictions, pictures."""
